//! The two sides at odds: panics, objects that aren't ready, and tables of an age before or after the other side's.

#![allow(clippy::unwrap_used)] // The helpers are part of the tests; clippy exempts only the test functions themselves.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;

use super::instance::CallError;
use super::instance::HostServices;
use super::instance::Instance;
use super::raw::RawBatch;
use super::raw::RawCall;
use super::raw::RawCallState;
use super::raw::RawDoor;
use super::raw::RawEvent;
use super::raw::RawExport;
use super::raw::RawFailure;
use super::raw::RawHandlerRef;
use super::raw::RawHostRef;
use super::raw::RawInstance;
use super::raw::RawMetric;
use super::raw::RawPluginRef;
use super::raw::RawRequest;
use super::raw::RawResponse;
use super::raw::RawSink;
use super::raw::RawStateVersion;
use super::raw::RawStatus;
use super::raw::RawVerb;
use crate::Batch;
use crate::Context;
use crate::Error;
use crate::Handler;
use crate::Level;
use crate::MetricKind;
use crate::Response;
use crate::Result;
use crate::context::ContextInfo;
use crate::export::private::export;

mod steps;

/// The tables as plugins have them that were built before state was handed over, and hosts that know no streams.
mod old {
    #![allow(dead_code, unreachable_pub)] // The derive reads fields in its own way and writes `pub` items of its own.

    use abi_stable::StableAbi;
    use abi_stable::std_types::RSlice;
    use abi_stable::std_types::RStr;

    use crate::abi::raw::RawBatch;
    use crate::abi::raw::RawCall;
    use crate::abi::raw::RawCallState;
    use crate::abi::raw::RawDoor;
    use crate::abi::raw::RawEvent;
    use crate::abi::raw::RawFailure;
    use crate::abi::raw::RawInstance;
    use crate::abi::raw::RawMetric;
    use crate::abi::raw::RawResponse;
    use crate::abi::raw::RawSink;
    use crate::abi::raw::RawStatus;

    #[repr(C)]
    #[derive(StableAbi)]
    #[sabi(kind(Prefix(prefix_ref = RawHostRef)))]
    #[sabi(missing_field(option))]
    pub struct RawHost {
        pub log: extern "C" fn(RawCallState, level: u8, message: RStr<'_>),
        pub metric: extern "C" fn(RawCallState, &RawMetric<'_>),
        pub respond: extern "C" fn(RawCallState, index: usize, &RawResponse<'_>),
        pub fail: extern "C" fn(RawCallState, index: usize, &RawFailure<'_>),
        pub forward: extern "C" fn(
            RawCallState,
            method: RStr<'_>,
            inputs: RSlice<'_, RawEvent<'_>>,
            RawDoor,
            RawSink,
        ) -> RawStatus,
        #[sabi(last_prefix_field)]
        pub weights: extern "C" fn(RawCallState, RawDoor, RawSink) -> RawStatus,
    }

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
    }

    #[repr(C)]
    #[derive(Clone, Copy, StableAbi)]
    pub struct RawExport {
        pub name: RStr<'static>,
        pub type_name: RStr<'static>,
        pub handler: RawHandlerRef,
    }

    #[repr(C)]
    #[derive(StableAbi)]
    #[sabi(kind(Prefix(prefix_ref = RawPluginRef)))]
    #[sabi(missing_field(option))]
    pub struct RawPlugin {
        #[sabi(last_prefix_field)]
        pub handlers: RSlice<'static, RawExport>,
    }
}

/// A host that has nothing to offer.
struct Bare;

impl HostServices for Bare {
    fn log(&self, _: Level, _: &str) {}
    fn metric(&self, _: MetricKind, _: &str, _: f64, _: &str, _: &[(&str, &str)]) {}
    fn forward(&self, _: &str, _: &[RawEvent<'_>], _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Err("no model".to_owned())
    }
    fn weights(&self, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        Err("no weights".to_owned())
    }
}

/// Keeps bytes; one it can't keep, and one it can't give back.
#[derive(Default)]
struct Keeps(Vec<u8>);

impl Handler for Keeps {
    const STATE_VERSION: Option<u32> = Some(u32::MAX);

    fn export_state(&self, _: &Context) -> Result<Vec<u8>> {
        assert_ne!(self.0, b"secret", "never told");
        Ok(self.0.clone())
    }

    fn import_state(&mut self, version: u32, state: &[u8], _: &Context) -> Result<()> {
        assert_ne!(state, b"poison", "not swallowed");
        if version == 0 {
            return Err(Error::new("version 0 was never written"));
        }
        self.0.extend_from_slice(state);
        Ok(())
    }
}

fn exported<H: Handler>() -> RawExport {
    export::<H>(("keeps", "Keeps"))
}

fn create(export: &RawExport) -> Instance {
    // SAFETY: the handler's code is part of this program, which stays mapped.
    unsafe { Instance::create(export, &Bare) }.unwrap()
}

fn initialized(export: &RawExport) -> Instance {
    let mut instance = create(export);
    instance.initialize(&info(), &Bare).unwrap();
    instance
}

fn info() -> ContextInfo {
    ContextInfo {
        model_name: "m".to_owned(),
        model_version: "1.0".to_owned(),
        model_dir: "folder".into(),
        device: "cpu".to_owned(),
        model_kind: None,
        properties: [].into(),
        config: serde_json::Value::Null,
    }
}

#[test]
fn state_crosses_byte_for_byte_and_stays_with_the_old_object() {
    let mut old = initialized(&exported::<Keeps>());
    assert_eq!(old.state_version(), Some(u32::MAX));
    assert_eq!(old.export_state(&Bare).unwrap(), b"");
    let state: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    old.import_state(7, &state, &Bare).unwrap();
    let mut new = initialized(&exported::<Keeps>());
    new.import_state(u32::MAX, &old.export_state(&Bare).unwrap(), &Bare).unwrap();
    assert_eq!(new.export_state(&Bare).unwrap(), state);
    assert_eq!(old.export_state(&Bare).unwrap(), state, "after a refused swap the old object goes on");
}

#[test]
fn a_panic_is_told_from_a_refusal() {
    let panicked = |words: &str, result: Result<(), CallError>| match result {
        Err(CallError::Panicked(error)) => assert!(error.log_text().contains(words), "{error}"),
        other => panic!("not a panic: {other:?}"),
    };
    let mut keeps = initialized(&exported::<Keeps>());
    let refused = keeps.import_state(0, b"", &Bare).unwrap_err();
    assert_eq!(refused, CallError::Failed(Error::new("version 0 was never written")));
    panicked("not swallowed", keeps.import_state(1, b"poison", &Bare));
    let mut keeps = initialized(&exported::<Keeps>());
    keeps.import_state(1, b"secret", &Bare).unwrap();
    panicked("never told", keeps.export_state(&Bare).map(drop));
}

#[test]
fn an_object_that_was_never_initialised_has_no_state() {
    let mut keeps = create(&exported::<Keeps>());
    let errors = [keeps.export_state(&Bare).map(drop), keeps.import_state(1, b"", &Bare)];
    let error = CallError::Failed(Error::new("the handler was never initialised"));
    assert_eq!(errors, [Err(error.clone()), Err(error)]);
}

#[test]
fn every_version_is_told_from_none() {
    for version in [None, Some(0), Some(1), Some(u32::MAX)] {
        assert_eq!(RawStateVersion::new(version).get(), version);
    }
    for number in [u64::from(u32::MAX) + 2, u64::MAX] {
        assert_eq!(RawStateVersion(number).get(), None);
    }
}

/// Its functions are those of today's table, which ends after `destroy`.
fn exported_by_an_old_plugin<H: Handler>() -> RawExport {
    let today = exported::<H>();
    let table = Box::leak(Box::new(WithMetadata::new(old::RawHandler {
        create: today.handler.create(),
        initialize: today.handler.initialize(),
        self_test: today.handler.self_test(),
        handle: today.handler.handle(),
        destroy: today.handler.destroy(),
    })));
    let table = old::RawHandlerRef(table.static_as_prefix());
    // SAFETY: the old table is a first part of today's: the next test compares the two as a host does.
    RawExport { handler: RawHandlerRef(unsafe { table.0.cast() }), ..today }
}

#[test]
fn a_plugin_of_before_loads() {
    // The host compares a plugin's layout with its own, in this order.
    let layouts = (<old::RawPluginRef as StableAbi>::LAYOUT, <RawPluginRef as StableAbi>::LAYOUT);
    check_layout_compatibility(layouts.0, layouts.1).map_err(|errors| errors.to_string()).unwrap();
    let hosts = (<old::RawHostRef as StableAbi>::LAYOUT, <RawHostRef as StableAbi>::LAYOUT);
    check_layout_compatibility(hosts.0, hosts.1).map_err(|errors| errors.to_string()).unwrap();
}

/// Tells its host what came of a piece.
#[derive(Default)]
struct Streams;

impl Handler for Streams {
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let request = &batch.as_slice()[0];
        assert!(!context.is_cancelled(request), "who can't tell says no");
        context.send(request, "a piece")?;
        Ok(vec!["the end".into()])
    }
}

#[test]
fn a_host_of_before_passes_no_pieces_on_and_the_handler_hears_of_it() {
    use std::cell::RefCell;

    extern "C" fn log(_: RawCallState, _: u8, _: RStr<'_>) {}
    extern "C" fn metric(_: RawCallState, _: &RawMetric<'_>) {}
    extern "C" fn respond(_: RawCallState, _: usize, _: &RawResponse<'_>) {}
    extern "C" fn fail(state: RawCallState, _: usize, failure: &RawFailure<'_>) {
        // SAFETY: the state is this test's own, below.
        let told = unsafe { &*state.0.cast::<RefCell<String>>() };
        *told.borrow_mut() = failure.log.as_str().to_owned();
    }
    extern "C" fn forward(
        _: RawCallState,
        _: RStr<'_>,
        _: RSlice<'_, RawEvent<'_>>,
        _: RawDoor,
        _: RawSink,
    ) -> RawStatus {
        RawStatus::FAILED
    }
    extern "C" fn weights(_: RawCallState, _: RawDoor, _: RawSink) -> RawStatus {
        RawStatus::FAILED
    }
    let table = Box::leak(Box::new(WithMetadata::new(old::RawHost { log, metric, respond, fail, forward, weights })));
    let table = old::RawHostRef(table.static_as_prefix());
    let told = RefCell::new(String::new());
    let call = RawCall {
        // SAFETY: the old table is a first part of today's: the test above compares the two.
        host: RawHostRef(unsafe { table.0.cast() }),
        state: RawCallState(std::ptr::from_ref(&told).cast()),
    };
    let handler = exported::<Streams>().handler;
    let mut instance = RawInstance(std::ptr::null_mut());
    assert_eq!(handler.create()(call, &mut instance), RawStatus::OK);
    let info = serde_json::to_string(&info()).unwrap();
    assert_eq!(handler.initialize()(instance, call, RStr::from_str(&info)), RawStatus::OK);
    let request = RawRequest { id: RStr::from_str("1"), headers: RSlice::EMPTY, fields: RSlice::EMPTY };
    let batch = RawBatch { verb: RawVerb::PREDICT, requests: RSlice::from_slice(std::slice::from_ref(&request)) };
    assert_eq!(handler.handle()(instance, call, &batch), RawStatus::FAILED);
    assert!(told.borrow().contains("this server is too old to pass on pieces"), "{}", told.borrow());
    assert_eq!(handler.destroy()(instance, call), RawStatus::OK);
}

#[test]
fn a_plugin_of_before_serves_and_has_no_state() {
    let mut keeps = initialized(&exported_by_an_old_plugin::<Keeps>());
    keeps.self_test(&Bare).unwrap();
    assert_eq!(keeps.state_version(), None);
    for error in [keeps.export_state(&Bare).map(drop), keeps.import_state(1, b"", &Bare)].map(Result::unwrap_err) {
        let CallError::Failed(error) = error else { panic!("{error:?}") };
        assert!(error.log_text().contains("has no STATE_VERSION"), "{error}");
    }
}
