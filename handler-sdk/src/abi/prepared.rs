//! The host's side of the single steps: requests that are prepared by one object, and answered by it or another of its kind.
//!
//! What `preprocess` has made stays in the plugin's memory.
//! The host holds a pointer to it, which passes from thread to thread, and gives it back once: whatever became of the steps between.

use abi_stable::std_types::RSlice;

use super::instance::CallError;
use super::instance::CallState;
use super::instance::Clients;
use super::instance::HostServices;
use super::instance::Instance;
use super::instance::Outcome;
use super::raw::RawBatch;
use super::raw::RawHandlerRef;
use super::raw::RawPrepared;
use super::raw::RawRequest;
use super::raw::RawStatus;
use crate::Error;

/// One request after its first step, and later with the model's output.
///
/// Dropping it runs the plugin's code, on whichever thread that happens; the library must be mapped then.
pub struct Prepared {
    raw: RawPrepared,
    /// Of whose objects it may be given to.
    handler: RawHandlerRef,
    discard: extern "C" fn(RawPrepared),
}

// SAFETY: the plugin's side asserts that what the pointer leads to is `Send`, and its functions take it on any thread; each call has it alone, since it takes a `&mut`.
unsafe impl Send for Prepared {}

// === impl Instance ===

impl Instance {
    /// Whether every object of this handler may be asked for each step on its own.
    ///
    /// An object knows once it has handled a batch; plugins of before never do.
    pub fn has_steps(&self) -> bool {
        self.handler.has_steps().is_some_and(|ask| ask(self.raw) == RawStatus::OK)
    }

    /// Runs `preprocess` for one request, which is number 0 to the clients.
    ///
    /// An error of the request itself is kept, and is its outcome in the end.
    pub fn prepare(
        &mut self,
        request: &RawRequest<'_>,
        services: &dyn HostServices,
        clients: &dyn Clients,
    ) -> Result<Prepared, CallError> {
        let prepare = stepwise(self.handler.prepare())?;
        let discard = stepwise(self.handler.discard())?;
        let mut raw = RawPrepared(std::ptr::null_mut());
        CallState::of_clients(services, 1, clients).run(|call| prepare(self.raw, call, request, &mut raw))?;
        if raw.0.is_null() {
            return Err(CallError::Failed(Error::new("the plugin prepared nothing and gave no reason")));
        }
        Ok(Prepared { raw, handler: self.handler, discard })
    }

    /// Runs `inference` for requests that were prepared by objects of this handler; each then has its output.
    ///
    /// After an error none of them has: they are to be prepared anew.
    pub fn infer<'a>(
        &mut self,
        batch: impl IntoIterator<Item = &'a mut Prepared>,
        services: &dyn HostServices,
    ) -> Result<(), CallError> {
        let infer = stepwise(self.handler.infer())?;
        let batch = self.own(batch)?;
        CallState::new(services, 0).run(|call| infer(self.raw, call, RSlice::from_slice(&batch)))
    }

    /// Runs `postprocess` for requests whose output is there, given in the order of the batch.
    ///
    /// The outcomes stand in that order; after a panic those are missing that hadn't come to their end.
    pub fn finish<'a>(
        &mut self,
        batch: &RawBatch<'_>,
        prepared: impl IntoIterator<Item = &'a mut Prepared>,
        services: &dyn HostServices,
        clients: &dyn Clients,
    ) -> (Vec<Outcome>, Result<(), CallError>) {
        let state = CallState::of_clients(services, batch.requests.len(), clients);
        let result = stepwise(self.handler.finish()).and_then(|finish| {
            let prepared = self.own(prepared)?;
            if prepared.len() != batch.requests.len() {
                let counts = format!("{} requests with {} outputs", batch.requests.len(), prepared.len());
                return Err(CallError::Failed(Error::new(format!("can't finish {counts}; this is a bug"))));
            }
            state.run(|call| finish(self.raw, call, batch, RSlice::from_slice(&prepared)))
        });
        (state.outcomes.into_inner(), result)
    }

    /// The pointers; another handler's code would take them for something else.
    fn own<'a>(&self, prepared: impl IntoIterator<Item = &'a mut Prepared>) -> Result<Vec<RawPrepared>, CallError> {
        let own = |prepared: &'a mut Prepared| {
            let is_own = prepared.handler.0.to_raw_ptr() == self.handler.0.to_raw_ptr();
            let strange = || CallError::Failed(Error::new("a request was prepared by other code; this is a bug"));
            is_own.then_some(prepared.raw).ok_or_else(strange)
        };
        prepared.into_iter().map(own).collect()
    }
}

/// A function that the tables of the first plugins don't hold.
fn stepwise<F>(function: Option<F>) -> Result<F, CallError> {
    function.ok_or_else(|| CallError::Failed(Error::new("the plugin was built before its steps could be called alone")))
}

// === impl Prepared ===

impl Drop for Prepared {
    fn drop(&mut self) {
        (self.discard)(self.raw);
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("raw", &self.raw).finish_non_exhaustive()
    }
}
