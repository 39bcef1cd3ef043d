//! The plugin's side: raw calls become calls of [`Handler`], and no panic goes further than here.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::RSlice;
use abi_stable::std_types::RStr;

use super::raw::RawBatch;
use super::raw::RawByteSink;
use super::raw::RawCall;
use super::raw::RawFailure;
use super::raw::RawHandler;
use super::raw::RawHandlerRef;
use super::raw::RawInstance;
use super::raw::RawPair;
use super::raw::RawPrepared;
use super::raw::RawRequest;
use super::raw::RawResponse;
use super::raw::RawStateVersion;
use super::raw::RawStatus;
use super::raw::RawVerb;
use super::raw::WHOLE_CALL;
use crate::Answer;
use crate::Batch;
use crate::Context;
use crate::Error;
use crate::Handler;
use crate::Request;
use crate::Response;
use crate::Result;
use crate::context::ContextInfo;
use crate::steps;
use crate::steps::Underway;

/// The function table of one handler type.
#[derive(Debug)]
pub struct Glue<H>(PhantomData<H>);

/// What an instance pointer points to.
struct Object<H> {
    handler: H,
    /// Set by `initialize`.
    context: Option<Context>,
}

// === impl Glue ===

impl<H: Handler> Glue<H> {
    /// The table, in the library's read-only data.
    pub const TABLE: RawHandlerRef = RawHandlerRef(Self::WITH_METADATA.as_prefix());

    abi_stable::staticref! {
        const WITH_METADATA: WithMetadata<RawHandler> = WithMetadata::new(RawHandler {
            create: Self::create,
            initialize: Self::initialize,
            self_test: Self::self_test,
            handle: Self::handle,
            destroy: Self::destroy,
            state_version: RawStateVersion::new(H::STATE_VERSION),
            export_state: Self::export_state,
            import_state: Self::import_state,
            has_steps: Self::has_steps,
            prepare: Self::prepare,
            infer: Self::infer,
            finish: Self::finish,
            discard,
        });
    }

    extern "C" fn create(call: RawCall, out: &mut RawInstance) -> RawStatus {
        guard(call, || {
            let object = Box::new(Object { handler: H::default(), context: None });
            out.0 = Box::into_raw(object).cast::<c_void>();
            Ok(())
        })
    }

    extern "C" fn initialize(instance: RawInstance, call: RawCall, context: RStr<'_>) -> RawStatus {
        guard(call, || {
            let object = Self::object(instance);
            let info: ContextInfo = serde_json::from_str(context.as_str())?;
            let context = object.context.insert(Context::new(info)?);
            let handler = &mut object.handler;
            context.with_call(call, |context| handler.initialize(context))
        })
    }

    extern "C" fn self_test(instance: RawInstance, call: RawCall) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            context.with_call(call, |context| handler.self_test(context))
        })
    }

    extern "C" fn handle(instance: RawInstance, call: RawCall, batch: &RawBatch<'_>) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            let (verb, batch) = (batch.verb, Batch::from_raw(batch));
            let responses = context.with_call(call, |context| match verb {
                RawVerb::PREDICT => handler.handle(&batch, context),
                RawVerb::EXPLAIN => handler.explain_batch(&batch, context),
                // The same for every request, whatever it holds.
                RawVerb::DESCRIBE => {
                    let words = handler.describe(context)?.unwrap_or_default();
                    Ok(vec![Response::json(&words); batch.len()])
                }
                _ => Err(Error::with_status(501, "the handler doesn't know this kind of request")),
            })?;
            if responses.len() != batch.len() {
                return Err(Error::with_status(503, "number of batch response mismatched").context(format!(
                    "the handler gave {} responses for a batch of {}",
                    responses.len(),
                    batch.len()
                )));
            }
            responses.iter().enumerate().for_each(|(index, response)| answer(call, index, response));
            Ok(())
        })
    }

    extern "C" fn export_state(instance: RawInstance, call: RawCall, sink: RawByteSink) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            let state = context.with_call(call, |context| handler.export_state(context))?;
            (sink.0)(call.state, RSlice::from_slice(&state));
            Ok(())
        })
    }

    extern "C" fn import_state(instance: RawInstance, call: RawCall, version: u32, state: RSlice<'_, u8>) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            context.with_call(call, |context| handler.import_state(version, state.as_slice(), context))
        })
    }

    extern "C" fn has_steps(instance: RawInstance) -> RawStatus {
        match &Self::object(instance).context {
            Some(context) if context.has_steps_of::<H>() => RawStatus::OK,
            _ => RawStatus::FAILED,
        }
    }

    extern "C" fn prepare(
        instance: RawInstance,
        call: RawCall,
        request: &RawRequest<'_>,
        out: &mut RawPrepared,
    ) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            let request = Request::alone(request);
            let underway = context.with_call(call, |context| steps::prepare(handler, &request, context));
            out.0 = Box::into_raw(Box::new(underway)).cast::<c_void>();
            Ok(())
        })
    }

    extern "C" fn infer(instance: RawInstance, call: RawCall, prepared: RSlice<'_, RawPrepared>) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            context.with_call(call, |context| steps::infer(handler, prepared.iter().map(underway), context))
        })
    }

    extern "C" fn finish(
        instance: RawInstance,
        call: RawCall,
        batch: &RawBatch<'_>,
        prepared: RSlice<'_, RawPrepared>,
    ) -> RawStatus {
        guard(call, || {
            let (handler, context) = Self::initialized(instance)?;
            let requests = Batch::from_raw(batch);
            let batch = requests.iter().zip(prepared.iter().map(underway));
            let respond = |request: &Request<'_>, response| answer(call, request.index(), &response);
            context.with_call(call, |context| steps::finish(handler, batch, context, respond));
            Ok(())
        })
    }

    extern "C" fn destroy(instance: RawInstance, call: RawCall) -> RawStatus {
        guard(call, || {
            // SAFETY: the pointer comes from `create`, and the host calls `destroy` once, as the last call.
            drop(unsafe { Box::from_raw(instance.0.cast::<Object<H>>()) });
            Ok(())
        })
    }

    fn object<'a>(instance: RawInstance) -> &'a mut Object<H> {
        // SAFETY: the pointer comes from `create` of this type; the host calls one function of an instance at a time, and none after `destroy`.
        unsafe { &mut *instance.0.cast::<Object<H>>() }
    }

    fn initialized<'a>(instance: RawInstance) -> Result<(&'a mut H, &'a Context)> {
        let object = Self::object(instance);
        let context = object.context.as_ref().ok_or_else(|| Error::new("the handler was never initialised"))?;
        Ok((&mut object.handler, context))
    }
}

fn underway<'a>(prepared: &RawPrepared) -> &'a mut Underway {
    // SAFETY: the pointer comes from `prepare`; the host gives it to one call at a time, and to none after `discard`.
    unsafe { &mut *prepared.0.cast::<Underway>() }
}

extern "C" fn discard(prepared: RawPrepared) {
    // Whatever unwinds must not leave the plugin; there is nobody to tell.
    let _ = catch_unwind(|| {
        // SAFETY: the pointer comes from `prepare`, and the host gives it to `discard` once, as the last call.
        drop(unsafe { Box::from_raw(prepared.0.cast::<Underway>()) });
    });
}

/// Runs the author's code; an error or a panic is reported to the host and becomes a status.
fn guard(call: RawCall, work: impl FnOnce() -> Result<()>) -> RawStatus {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => RawStatus::OK,
        Ok(Err(error)) => {
            fail(call, WHOLE_CALL, &error);
            RawStatus::FAILED
        }
        Err(payload) => {
            fail(call, WHOLE_CALL, &Error::new(panic_text(payload.as_ref())));
            // Dropping a payload runs the author's code once more.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            RawStatus::PANICKED
        }
    }
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("(no message)"))
}

fn answer(call: RawCall, index: usize, response: &Response) {
    match response.outcome() {
        Ok(answer) => lend(answer, |raw| call.host.respond()(call.state, index, raw)),
        Err(error) => fail(call, index, error),
    }
}

/// Lends an answer for a call.
pub(crate) fn lend<T>(answer: &Answer, call: impl FnOnce(&RawResponse<'_>) -> T) -> T {
    let headers: Vec<RawPair<'_>> = answer
        .headers
        .iter()
        .map(|(name, value)| RawPair { name: RStr::from_str(name), value: RStr::from_str(value) })
        .collect();
    let raw = RawResponse {
        status: answer.status,
        content_type: RStr::from_str(answer.content_type.as_deref().unwrap_or_default()),
        headers: RSlice::from_slice(&headers),
        body: RSlice::from_slice(&answer.body),
    };
    call(&raw)
}

fn fail(call: RawCall, index: usize, error: &Error) {
    let raw = RawFailure {
        status: error.status(),
        client: RStr::from_str(error.client_text()),
        log: RStr::from_str(error.log_text()),
    };
    call.host.fail()(call.state, index, &raw);
}
