//! The recorder of libtorch's operators as Rust sees it; profile.cpp is its other half.

use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::time::Duration;
use std::time::Instant;

use crate::model::Operand;
use crate::model::Operator;
use crate::model::OperatorKind;
use crate::model::Operators;

type TellOperator =
    extern "C" fn(sink: *mut c_void, name: *const c_char, scope: c_int, began: i64, took: i64, depth: usize);

type TellOperand =
    extern "C" fn(sink: *mut c_void, kind: c_int, dtype: *const c_char, shape: *const i64, dimensions: usize);

unsafe extern "C" {
    fn sconce_recording_now() -> i64;
    fn sconce_recording_begin(most: usize) -> *mut c_void;
    fn sconce_recording_end(recording: *mut c_void);
    fn sconce_recording_walk(
        recording: *const c_void,
        sink: *mut c_void,
        tell_operator: TellOperator,
        tell_operand: TellOperand,
    ) -> usize;
    fn sconce_recording_free(recording: *mut c_void);
}

/// A recording of this thread, which it must not leave: a raw pointer is not Send.
#[derive(Debug)]
pub(crate) struct Recording {
    raw: *mut c_void,
    clock: Clock,
}

/// What the recording's clock showed at an instant.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    nanoseconds: i64,
}

struct Sink {
    clock: Clock,
    operators: Vec<Operator>,
    /// Of a list of tensors that has begun.
    list: Option<Vec<Operand>>,
}

/// Clocks are compared so often, and the quickest comparison counts: the thread may be put aside in the middle of one.
const COMPARISONS: usize = 5;

// === impl Recording ===

impl Recording {
    /// `None` where this thread is recorded already.
    pub(crate) fn begin(most: usize) -> Option<Self> {
        let clock = Clock::compared();
        // SAFETY: no conditions; the recording is ours.
        let raw = unsafe { sconce_recording_begin(most) };
        (!raw.is_null()).then_some(Self { raw, clock })
    }

    pub(crate) fn end(self) -> Operators {
        // SAFETY: it was begun on this thread, and ends once more in `drop`, which changes nothing.
        unsafe { sconce_recording_end(self.raw) };
        let mut sink = Sink { clock: self.clock, operators: Vec::new(), list: None };
        // SAFETY: recording and sink live through the call.
        let dropped = unsafe { sconce_recording_walk(self.raw, (&raw mut sink).cast(), tell_operator, tell_operand) };
        Operators { list: sink.operators, dropped }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: it was begun on this thread, which it can't have left.
        unsafe { sconce_recording_end(self.raw) };
        // SAFETY: it is ours, and this is its end.
        unsafe { sconce_recording_free(self.raw) }
    }
}

// === impl Clock ===

impl Clock {
    fn compared() -> Self {
        let compare = |_| {
            let before = Instant::now();
            // SAFETY: no conditions.
            let nanoseconds = unsafe { sconce_recording_now() };
            (before.elapsed(), Self { instant: before, nanoseconds })
        };
        let first = compare(0);
        (1..COMPARISONS).map(compare).fold(first, |best, next| if next.0 < best.0 { next } else { best }).1
    }

    fn at(self, nanoseconds: i64) -> Instant {
        let since = u64::try_from(nanoseconds.saturating_sub(self.nanoseconds)).unwrap_or(0);
        self.instant + Duration::from_nanos(since)
    }
}

// === impl Sink ===

extern "C" fn tell_operator(sink: *mut c_void, name: *const c_char, scope: c_int, began: i64, took: i64, depth: usize) {
    // SAFETY: the pointer is the sink of the call that is running.
    let sink = unsafe { &mut *sink.cast::<Sink>() };
    // SAFETY: the shim passes a C string that lives through this call.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    sink.operators.push(Operator {
        name,
        kind: match scope {
            0 => OperatorKind::Operator,
            1 => OperatorKind::Backward,
            2 => OperatorKind::Script,
            _ => OperatorKind::Named,
        },
        began: sink.clock.at(began),
        took: Duration::from_nanos(u64::try_from(took).unwrap_or(0)),
        depth,
        inputs: Vec::new(),
    });
}

extern "C" fn tell_operand(sink: *mut c_void, kind: c_int, dtype: *const c_char, shape: *const i64, dimensions: usize) {
    // SAFETY: the pointer is the sink of the call that is running.
    let sink = unsafe { &mut *sink.cast::<Sink>() };
    let operand = match kind {
        0 => Operand::Tensor {
            // SAFETY: the shim passes a C string that lives through this call.
            dtype: unsafe { CStr::from_ptr(dtype) }.to_string_lossy().into_owned(),
            shape: match dimensions {
                0 => Vec::new(),
                // SAFETY: the shim passes so many numbers, which live through this call.
                _ => unsafe { std::slice::from_raw_parts(shape, dimensions) }.to_vec(),
            },
        },
        1 => Operand::Scalar,
        3 => {
            sink.list = Some(Vec::new());
            return;
        }
        4 => Operand::Tensors(sink.list.take().unwrap_or_default()),
        _ => Operand::Other,
    };
    match (&mut sink.list, sink.operators.last_mut()) {
        (Some(list), _) => list.push(operand),
        (None, Some(operator)) => operator.inputs.push(operand),
        (None, None) => {}
    }
}
