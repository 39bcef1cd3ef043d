//! The types that cross the boundary: `Raw…` is what both sides see in memory.
//!
//! A struct that isn't a function table is frozen once released; the tables end in a `last_prefix_field` and grow only behind it.

#![allow(missing_docs, missing_debug_implementations)] // The fields are named after the public types that explain them; tables of functions have nothing to print.

use std::ffi::c_void;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;

/// How a call ended.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RawStatus(pub u8);

/// What kind of call a batch is.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RawVerb(pub u8);

/// In which form a tensor is handed over.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RawDoor(pub u8);

/// The version of the state that a handler hands over at a swap, or none.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RawStateVersion(pub u64);

/// What a [`RawEvent`] announces.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi)]
pub struct RawEventKind(pub u8);

/// A handler object; only the plugin that made it looks inside.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawInstance(pub *mut c_void);

/// What the steps so far have made of one request; only the plugin looks inside.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawPrepared(pub *mut c_void);

/// The host's state during one call; only the host looks inside.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawCallState(pub *const c_void);

/// The plugin's state behind a [`RawSink`]; only the plugin looks inside.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawSinkState(pub *mut c_void);

/// The receiver of a value: called once for each step through it.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawSink {
    pub state: RawSinkState,
    pub emit: extern "C" fn(RawSinkState, &RawEvent<'_>),
}

/// The host's receiver of a handler's state: called with the state of the call, once for each piece, in order.
#[repr(transparent)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawByteSink(pub extern "C" fn(RawCallState, bytes: RSlice<'_, u8>));

/// What a plugin may use during one call.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawCall {
    pub host: RawHostRef,
    pub state: RawCallState,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawPair<'a> {
    pub name: RStr<'a>,
    pub value: RStr<'a>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawField<'a> {
    pub name: RStr<'a>,
    /// Empty where the client named none.
    pub content_type: RStr<'a>,
    pub bytes: RSlice<'a, u8>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawRequest<'a> {
    pub id: RStr<'a>,
    pub headers: RSlice<'a, RawPair<'a>>,
    pub fields: RSlice<'a, RawField<'a>>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawBatch<'a> {
    pub verb: RawVerb,
    pub requests: RSlice<'a, RawRequest<'a>>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawResponse<'a> {
    pub status: u16,
    /// Empty where the handler named none.
    pub content_type: RStr<'a>,
    pub headers: RSlice<'a, RawPair<'a>>,
    pub body: RSlice<'a, u8>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawFailure<'a> {
    pub status: u16,
    pub client: RStr<'a>,
    pub log: RStr<'a>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawMetric<'a> {
    /// 0 counter, 1 gauge, 2 histogram.
    pub kind: u8,
    pub value: f64,
    pub name: RStr<'a>,
    pub unit: RStr<'a>,
    pub labels: RSlice<'a, RawPair<'a>>,
}

/// A tensor, borrowed for the call: `torch` is set with [`RawDoor::TORCH`], the rest with [`RawDoor::PLAIN`].
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawTensor<'a> {
    pub door: RawDoor,
    pub dtype: u8,
    pub shape: RSlice<'a, i64>,
    pub bytes: RSlice<'a, u8>,
    /// An `at::Tensor *`.
    pub torch: *const c_void,
}

/// One step through a value: a tensor, or the beginning or end of what holds several.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawEvent<'a> {
    pub kind: RawEventKind,
    /// The key in a dict, the name of a weight, or an error's text.
    pub name: RStr<'a>,
    pub tensor: RawTensor<'a>,
}

/// Of which gradients a plugin asks: those of one column of a method's output, summed over its rows.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct RawGradients<'a> {
    pub method: RStr<'a>,
    /// A submodule's path, or empty for the method's first input.
    ///
    /// Where a layer is named, the first of the inputs stands in for what it gives, and the method's own follow.
    pub layer: RStr<'a>,
    pub target: u64,
    pub inputs: RSlice<'a, RawEvent<'a>>,
}

/// What the host does for a plugin during a call.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RawHostRef)))]
#[sabi(missing_field(option))]
pub struct RawHost {
    pub log: extern "C" fn(RawCallState, level: u8, message: RStr<'_>),
    pub metric: extern "C" fn(RawCallState, &RawMetric<'_>),
    pub respond: extern "C" fn(RawCallState, index: usize, &RawResponse<'_>),
    pub fail: extern "C" fn(RawCallState, index: usize, &RawFailure<'_>),
    /// The inputs are walked through one after the other.
    pub forward:
        extern "C" fn(RawCallState, method: RStr<'_>, inputs: RSlice<'_, RawEvent<'_>>, RawDoor, RawSink) -> RawStatus,
    #[sabi(last_prefix_field)]
    pub weights: extern "C" fn(RawCallState, RawDoor, RawSink) -> RawStatus,
    /// A piece of the answer to one request, ahead of its end; not `OK` where nobody takes it.
    pub send: extern "C" fn(RawCallState, index: usize, &RawResponse<'_>) -> RawStatus,
    /// `OK` while somebody waits for the answer to that request.
    pub wanted: extern "C" fn(RawCallState, index: usize) -> RawStatus,
    /// What a submodule gives while a method runs.
    pub layer: extern "C" fn(
        RawCallState,
        method: RStr<'_>,
        layer: RStr<'_>,
        inputs: RSlice<'_, RawEvent<'_>>,
        RawDoor,
        RawSink,
    ) -> RawStatus,
    pub gradients: extern "C" fn(RawCallState, &RawGradients<'_>, RawDoor, RawSink) -> RawStatus,
}

/// What the host asks of one handler.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RawHandlerRef)))]
#[sabi(missing_field(option))]
pub struct RawHandler {
    pub create: extern "C" fn(RawCall, &mut RawInstance) -> RawStatus,
    pub initialize: extern "C" fn(RawInstance, RawCall, context: RStr<'_>) -> RawStatus,
    pub self_test: extern "C" fn(RawInstance, RawCall) -> RawStatus,
    pub handle: extern "C" fn(RawInstance, RawCall, &RawBatch<'_>) -> RawStatus,
    #[sabi(last_prefix_field)]
    pub destroy: extern "C" fn(RawInstance, RawCall) -> RawStatus,
    pub state_version: RawStateVersion,
    pub export_state: extern "C" fn(RawInstance, RawCall, RawByteSink) -> RawStatus,
    /// The version is that of the handler which exported the state.
    pub import_state: extern "C" fn(RawInstance, RawCall, version: u32, state: RSlice<'_, u8>) -> RawStatus,
    /// `OK` once this object's `handle` has turned out to be nothing but the three steps, so that objects of its kind may be asked for each of them.
    pub has_steps: extern "C" fn(RawInstance) -> RawStatus,
    /// The first step, for one request; what came of it is the host's, to be given to `discard` once.
    ///
    /// An error of the request is no failure of the call: it stays with what was prepared, until `finish` tells it.
    pub prepare: extern "C" fn(RawInstance, RawCall, &RawRequest<'_>, &mut RawPrepared) -> RawStatus,
    /// The second step, for a batch; what was prepared then holds the outputs, or after a failure nothing.
    pub infer: extern "C" fn(RawInstance, RawCall, RSlice<'_, RawPrepared>) -> RawStatus,
    /// The third step, for as many requests as are given with what was made of them; each is answered as by `handle`.
    pub finish: extern "C" fn(RawInstance, RawCall, &RawBatch<'_>, RSlice<'_, RawPrepared>) -> RawStatus,
    /// Needs no object: one that has panicked, or is gone, may have prepared it.
    pub discard: extern "C" fn(RawPrepared),
}

/// One handler under the name by which archives ask for it.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawExport {
    /// `mnist_digit_classifier`
    pub name: RStr<'static>,
    /// `MnistDigitClassifier`
    pub type_name: RStr<'static>,
    pub handler: RawHandlerRef,
}

/// The root of a library: what it exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RawPluginRef)))]
#[sabi(missing_field(option))]
pub struct RawPlugin {
    #[sabi(last_prefix_field)]
    pub handlers: RSlice<'static, RawExport>,
}

// === impl RawStatus ===

impl RawStatus {
    pub const OK: Self = Self(0);
    /// The call failed; the reason was given to `RawHost::fail` before.
    pub const FAILED: Self = Self(1);
    /// The plugin's code panicked: the instance is not to be called again.
    pub const PANICKED: Self = Self(2);
}

// === impl RawVerb ===

impl RawVerb {
    pub const PREDICT: Self = Self(0);
    pub const EXPLAIN: Self = Self(1);
    pub const DESCRIBE: Self = Self(2);
}

// === impl RawDoor ===

impl RawDoor {
    pub const PLAIN: Self = Self(0);
    pub const TORCH: Self = Self(1);
}

// === impl RawStateVersion ===

impl RawStateVersion {
    pub const NONE: Self = Self(0);

    pub const fn new(version: Option<u32>) -> Self {
        match version {
            Some(version) => Self(version as u64 + 1),
            None => Self::NONE,
        }
    }

    /// A number too large to be a version is one that a later SDK gave a meaning: none here.
    pub fn get(self) -> Option<u32> {
        self.0.checked_sub(1).and_then(|version| version.try_into().ok())
    }
}

// === impl RawEventKind ===

impl RawEventKind {
    pub const TENSOR: Self = Self(0);
    pub const BEGIN_LIST: Self = Self(1);
    pub const BEGIN_DICT: Self = Self(2);
    pub const END: Self = Self(3);
    pub const ERROR: Self = Self(4);
}

// === impl RawEvent ===

impl<'a> RawEvent<'a> {
    pub fn tensor(name: &'a str, tensor: RawTensor<'a>) -> Self {
        Self { kind: RawEventKind::TENSOR, name: RStr::from_str(name), tensor }
    }

    pub fn mark(kind: RawEventKind, name: &'a str) -> Self {
        Self { kind, name: RStr::from_str(name), tensor: RawTensor::EMPTY }
    }
}

// === impl RawTensor ===

impl<'a> RawTensor<'a> {
    /// Lends plain memory.
    pub fn plain(dtype: u8, shape: &'a [i64], bytes: &'a [u8]) -> Self {
        Self {
            door: RawDoor::PLAIN,
            dtype,
            shape: RSlice::from_slice(shape),
            bytes: RSlice::from_slice(bytes),
            torch: std::ptr::null(),
        }
    }

    /// Lends an `at::Tensor *`.
    pub fn torch(tensor: *const c_void) -> Self {
        Self { door: RawDoor::TORCH, torch: tensor, ..RawTensor::EMPTY }
    }

    pub const EMPTY: RawTensor<'static> = RawTensor {
        door: RawDoor::PLAIN,
        dtype: 0,
        shape: RSlice::EMPTY,
        bytes: RSlice::EMPTY,
        torch: std::ptr::null(),
    };
}

/// The index that stands for the whole call, not for one of its requests.
pub const WHOLE_CALL: usize = usize::MAX;

// === impl RawPluginRef ===

impl RootModule for RawPluginRef {
    abi_stable::declare_root_module_statics! {RawPluginRef}
    const BASE_NAME: &'static str = "sconce_handlers";
    const NAME: &'static str = "sconce_handlers";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

impl std::fmt::Debug for RawCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawCall").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RawSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSink").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RawByteSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawByteSink").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RawExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawExport").field("name", &self.name).finish_non_exhaustive()
    }
}
