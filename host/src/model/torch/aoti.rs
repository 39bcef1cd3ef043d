//! The shim's functions for compiled code as Rust sees them.

use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;

use handler_sdk::Device;

use super::shim::Emit;
use super::shim::Receiver;
use super::shim::Sink;
use super::shim::check;
use super::shim::emit;
use super::shim::text;
use super::shim::trim_memory;

unsafe extern "C" {
    fn sconce_package_load(
        path: *const c_char,
        kind: *const c_char,
        device: *const c_char,
        folder: *const c_char,
        runners: usize,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn sconce_package_free(package: *mut c_void);
    fn sconce_package_specs(package: *const c_void, sink: *mut c_void, emit: Emit) -> *mut c_char;
    fn sconce_package_run(
        package: *const c_void,
        inputs: *const *const c_void,
        count: usize,
        one_thread: bool,
        sink: *mut c_void,
        emit: Emit,
    ) -> *mut c_char;
    fn sconce_package_weights(package: *const c_void, copies: bool, sink: *mut c_void, emit: Emit) -> *mut c_char;
}

/// Compiled code in C++'s hands.
#[derive(Debug)]
pub(super) struct RawPackage(*mut c_void);

/// Whose memory a weight is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lending {
    /// The code's: it lasts as long as the package does.
    Own,
    /// The taker's.
    Copies,
}

// SAFETY: the C++ object isn't changed after it was made, and calls of several threads take runners of their own.
unsafe impl Send for RawPackage {}
// SAFETY: as above.
unsafe impl Sync for RawPackage {}

// === impl RawPackage ===

impl RawPackage {
    /// Loads the code in `library`, which finds what it needs beside itself in `folder`.
    pub(super) fn load(library: &Path, folder: &Path, device: Device, runners: usize) -> Result<Self, String> {
        let path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string());
        let (library, folder) = (path(library)?, path(folder)?);
        let kind = if device == Device::Cpu { c"cpu" } else { c"cuda" };
        let device = text(&device.to_string())?;
        let mut package = null_mut();
        // SAFETY: the pointers are valid for the call; on success the package is ours. What the library's start-up code does was tried in a canary.
        check(unsafe {
            sconce_package_load(
                library.as_ptr(),
                kind.as_ptr(),
                device.as_ptr(),
                folder.as_ptr(),
                runners,
                &raw mut package,
            )
        })?;
        Ok(Self(package))
    }

    /// The structures of its inputs and its outputs, as JSON.
    pub(super) fn specs(&self) -> Result<[String; 2], String> {
        let mut specs = Vec::new();
        let mut take: Receiver<'_> = &mut |step| {
            specs.push(step.name.to_owned());
            Ok(())
        };
        let mut sink = Sink::new(&mut take);
        // SAFETY: the sink lives through the call.
        check(unsafe { sconce_package_specs(self.0, sink.pointer(), emit) })?;
        specs.try_into().map_err(|_| "the package doesn't tell its inputs and outputs".to_owned())
    }

    /// Calls the code with tensors that were checked; all of its threads are this one where `one_thread` says so.
    pub(super) fn run(
        &self,
        inputs: &[tch::Tensor],
        one_thread: bool,
        mut receiver: Receiver<'_>,
    ) -> Result<(), String> {
        let inputs: Vec<*const c_void> = inputs.iter().map(|tensor| tensor.as_ptr().cast()).collect();
        let mut sink = Sink::new(&mut receiver);
        let (inputs, count) = (inputs.as_ptr(), inputs.len());
        // SAFETY: tensors and sink live through the call; the code was made for tensors like these: the caller has checked them.
        check(unsafe { sconce_package_run(self.0, inputs, count, one_thread, sink.pointer(), emit) })?;
        sink.result
    }

    pub(super) fn weights(&self, lending: Lending, mut receiver: Receiver<'_>) -> Result<(), String> {
        let mut sink = Sink::new(&mut receiver);
        let copies = lending == Lending::Copies;
        // SAFETY: the sink lives through the call.
        check(unsafe { sconce_package_weights(self.0, copies, sink.pointer(), emit) })?;
        sink.result
    }
}

impl Drop for RawPackage {
    fn drop(&mut self) {
        // SAFETY: the object is ours, and this is its end; calls borrow it.
        unsafe { sconce_package_free(self.0) }
        trim_memory();
    }
}
