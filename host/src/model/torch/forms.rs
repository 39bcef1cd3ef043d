//! The forms of a module, as Rust sees forms.cpp.

use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::ptr::null;
use std::ptr::null_mut;

use super::shim::Emit;
use super::shim::Input;
use super::shim::Lent;
use super::shim::RawInput;
use super::shim::RawModel;
use super::shim::Receiver;
use super::shim::Sink;
use super::shim::check;
use super::shim::emit;
use crate::model::tuning::Form;

unsafe extern "C" {
    fn sconce_profiling_executor_off();
    fn sconce_fusion_dynamic();
    fn sconce_form_make(model: *const c_void, kind: c_int, out: *mut *mut c_void) -> *mut c_char;
    fn sconce_form_free(form: *mut c_void);
    fn sconce_form_forward(
        model: *const c_void,
        form: *const c_void,
        inputs: *const RawInput,
        count: usize,
        sink: *mut c_void,
        emit: Emit,
    ) -> *mut c_char;
    fn sconce_form_repeat(
        model: *const c_void,
        form: *const c_void,
        inputs: *const RawInput,
        count: usize,
        times: usize,
    ) -> *mut c_char;
    fn sconce_form_keep(model: *const c_void, form: *mut c_void);
    fn sconce_form_kept(model: *const c_void) -> *const c_void;
}

/// A module in another form, in C++'s hands.
#[derive(Debug)]
pub(super) struct RawForm(*mut c_void);

/// Sets how TorchScript's executor makes its plans, before it makes any.
pub(super) fn set_executor(has_gpu: bool) {
    // SAFETY: no conditions; each sets one value of the process.
    unsafe {
        if has_gpu {
            sconce_fusion_dynamic();
        } else {
            sconce_profiling_executor_off();
        }
    }
}

// === impl RawForm ===

impl RawForm {
    fn pointer(form: Option<&Self>) -> *const c_void {
        form.map_or(null(), |form| form.0)
    }
}

impl Drop for RawForm {
    fn drop(&mut self) {
        // SAFETY: the object is ours, and this is its end.
        unsafe { sconce_form_free(self.0) }
    }
}

// === impl RawModel ===

impl RawModel {
    /// The module in a form of its own.
    pub(super) fn make_form(&self, form: Form) -> Result<RawForm, String> {
        let kind = match form {
            Form::AsLoaded => return Err("the module as it was loaded is no form of its own; this is a bug".to_owned()),
            Form::Frozen => 1,
            Form::Optimized => 2,
            Form::ChannelsLast => 3,
            Form::Fused => 4,
        };
        let mut made = null_mut();
        // SAFETY: the pointers are valid for the call; on success the form is ours.
        check(unsafe { sconce_form_make(self.pointer(), kind, &raw mut made) })?;
        Ok(RawForm(made))
    }

    /// Calls the method forward of a form; `None` is the module as it was loaded.
    pub(super) fn forward_in(
        &self,
        form: Option<&RawForm>,
        inputs: &[Input],
        mut receiver: Receiver<'_>,
    ) -> Result<(), String> {
        let inputs = Lent::new(inputs)?;
        let (raw, count) = (inputs.raw.as_ptr(), inputs.raw.len());
        let mut sink = Sink::new(&mut receiver);
        let form = RawForm::pointer(form);
        // SAFETY: the form is null or one of this model; inputs and the sink live through the call.
        check(unsafe { sconce_form_forward(self.pointer(), form, raw, count, sink.pointer(), emit) })?;
        sink.result
    }

    /// Calls it so many times, and drops what it gives.
    pub(super) fn repeat_in(&self, form: Option<&RawForm>, inputs: &[Input], times: usize) -> Result<(), String> {
        self.repeat_by(RawForm::pointer(form), inputs, times)
    }

    /// The same with the form that is kept.
    pub(super) fn repeat_as_kept(&self, inputs: &[Input], times: usize) -> Result<(), String> {
        // SAFETY: no conditions.
        self.repeat_by(unsafe { sconce_form_kept(self.pointer()) }, inputs, times)
    }

    fn repeat_by(&self, form: *const c_void, inputs: &[Input], times: usize) -> Result<(), String> {
        let inputs = Lent::new(inputs)?;
        // SAFETY: the form is null or one of this model, which lives as long as the model or the caller's borrow; the inputs live through the call.
        check(unsafe { sconce_form_repeat(self.pointer(), form, inputs.raw.as_ptr(), inputs.raw.len(), times) })
    }

    /// From now on this is how the method forward runs. Call it once at most.
    pub(super) fn keep(&self, form: RawForm) {
        let form = std::mem::ManuallyDrop::new(form);
        // SAFETY: the model owns the form from here on; who calls the model meanwhile finds either the old or the new form, by an atomic pointer, and no form is ever replaced.
        unsafe { sconce_form_keep(self.pointer(), form.0) }
    }

    /// Whether it runs in the form that was kept: one that fails where the module doesn't is given up.
    pub(super) fn runs_in_form(&self) -> bool {
        // SAFETY: no conditions.
        !unsafe { sconce_form_kept(self.pointer()) }.is_null()
    }
}
