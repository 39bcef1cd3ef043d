//! A thread's device, as Rust sees device.cpp: its stream, and memory that goes there and back.

use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use handler_sdk::DType;
use handler_sdk::Device;
use tch::Tensor;

use super::shim::check;
use super::shim::index;

unsafe extern "C" {
    fn sconce_stream_enter(device: c_int) -> *mut c_char;
    fn sconce_tensor_place(
        bytes: *const c_void,
        length: usize,
        sizes: *const i64,
        dimensions: usize,
        kind: c_int,
        device: c_int,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn sconce_tensor_fetch(tensor: *const c_void, out: *mut *mut c_void) -> *mut c_char;
    fn sconce_tensor_address(tensor: *const c_void) -> *const c_void;
    fn sconce_device_works(device: c_int) -> bool;
}

/// Whether a device still computes: a GPU's first error of some kinds is its last word in this process.
#[derive(Debug, Default)]
pub(super) struct Health {
    is_lost: AtomicBool,
}

/// From now on this thread works in a stream of its own; nothing on a CPU.
pub(super) fn enter_stream(device: Device) -> Result<(), String> {
    // SAFETY: no conditions; what it changes is this thread's.
    check(unsafe { sconce_stream_enter(index(device)) })
}

/// A copy of plain memory on a device.
pub(super) fn place(bytes: &[u8], shape: &[i64], dtype: DType, device: Device) -> Result<Tensor, String> {
    let mut tensor = null_mut();
    let (data, sizes) = (bytes.as_ptr().cast(), shape.as_ptr());
    // SAFETY: both slices live through the call, which reads as much of them as is said; on success the tensor is ours.
    check(unsafe {
        sconce_tensor_place(data, bytes.len(), sizes, shape.len(), scalar_type(dtype)?, index(device), &raw mut tensor)
    })?;
    // SAFETY: the shim gives a new `at::Tensor`, and nobody else has it.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// Where its memory begins; `None` for a tensor whose numbers don't lie in a row.
pub(super) fn address(tensor: &Tensor) -> Option<usize> {
    // SAFETY: the tensor lives through the call.
    let address = unsafe { sconce_tensor_address(tensor.as_ptr().cast()) };
    (!address.is_null()).then_some(address as usize)
}

/// The same tensor in contiguous memory of the host.
pub(super) fn fetch(tensor: &Tensor) -> Result<Tensor, String> {
    let mut fetched = null_mut();
    // SAFETY: the tensor lives through the call; on success the new one is ours.
    check(unsafe { sconce_tensor_fetch(tensor.as_ptr().cast(), &raw mut fetched) })?;
    // SAFETY: the shim gives a new `at::Tensor`, and nobody else has it.
    Ok(unsafe { Tensor::from_ptr(fetched.cast()) })
}

/// libtorch's own number for it, `c10::ScalarType`.
fn scalar_type(dtype: DType) -> Result<c_int, String> {
    Ok(match dtype {
        DType::U8 => 0,
        DType::I8 => 1,
        DType::I16 => 2,
        DType::I32 => 3,
        DType::I64 => 4,
        DType::F16 => 5,
        DType::F32 => 6,
        DType::F64 => 7,
        DType::Bool => 11,
        DType::BF16 => 15,
        other => return Err(format!("libtorch has no element type {other:?}")),
    })
}

// === impl Health ===

impl Health {
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Looks after a failed call whether the device failed with it.
    pub(super) fn examine(&self, device: Device, error: &str) {
        // SAFETY: no conditions.
        if self.is_lost() || unsafe { sconce_device_works(index(device)) } {
            return;
        }
        self.is_lost.store(true, Ordering::Relaxed);
        tracing::error!(%device, error, "the device computes nothing any more, and will not until this process has ended: restart the server");
    }
}
