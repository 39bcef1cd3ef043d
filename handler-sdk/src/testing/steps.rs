//! Tests that go through the steps as a server does that prepares requests while others run.

use abi_stable::std_types::RSlice;

use super::Audience;
use super::Request;
use super::Running;
use super::answers;
use super::make;
use super::reason;
use super::request;
use crate::Answer;
use crate::Error;
use crate::Result;
use crate::abi::instance::CallError;
use crate::abi::instance::Clients;
use crate::abi::instance::Instance;
use crate::abi::prepared::Prepared;
use crate::abi::raw::RawBatch;
use crate::abi::raw::RawVerb;

/// The clients of the one request that is being prepared.
struct AudienceOfOne<'a> {
    audience: &'a Audience,
    place: usize,
}

// === impl Running ===

impl Running {
    /// Sends one request, as [`handle_in_steps`](Self::handle_in_steps) does.
    #[allow(clippy::needless_pass_by_value)] // A request made in place reads best.
    pub fn predict_in_steps(&mut self, request: Request) -> Result<Answer> {
        self.handle_in_steps(std::slice::from_ref(&request)).pop().unwrap_or_else(|| Err(Error::new("no answer")))
    }

    /// Sends a batch as a server does that prepares requests while others run: one object runs `preprocess` for each of them and `postprocess` at the end, another one `inference`.
    ///
    /// The answers are those of [`handle`](Self::handle), unless something passes from step to step through `self`:
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// use handler_sdk::prelude::*;
    /// use handler_sdk::testing::{Host, Request as Sent};
    ///
    /// /// Takes it that all steps are those of one request, one after the other.
    /// #[derive(Default)]
    /// struct Forgets(Cell<usize>);
    ///
    /// impl Handler for Forgets {
    ///     fn preprocess(&self, request: &Request, _: &Context) -> Result<Value> {
    ///         self.0.set(request.body().len());
    ///         Ok(request.input()?.tensor()?.into())
    ///     }
    ///
    ///     fn inference(&self, inputs: Vec<Value>, _: &Context) -> Result<Vec<Value>> {
    ///         self.0.set(self.0.get() * inputs.len());
    ///         Ok(inputs)
    ///     }
    ///
    ///     fn postprocess(&self, _: Value, _: &Request, _: &Context) -> Result<Response> {
    ///         Ok(Response::text(self.0.get().to_string()))
    ///     }
    /// }
    ///
    /// let mut forgets = Host::new().start::<Forgets>()?;
    /// let requests = [Sent::body("[1]"), Sent::body("[1, 2]")];
    /// assert_eq!(forgets.handle(&requests)[0].as_ref().unwrap().body, b"12", "as if it were right");
    /// assert_eq!(forgets.handle_in_steps(&requests)[0].as_ref().unwrap().body, b"6");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// A handler with a `STATE_VERSION` is asked for each step by itself, since its state has one place.
    /// One that replaces `handle` is called as ever.
    /// As in a server, that is found out by a first batch, so the first of these calls goes through `handle` before it goes through the steps.
    pub fn handle_in_steps(&mut self, requests: &[Request]) -> Vec<Result<Answer>> {
        if !self.instance.has_steps() {
            let answers = self.handle(requests);
            if !self.instance.has_steps() {
                return answers;
            }
        }
        self.audience.pieces.borrow_mut().clear();
        let views: Vec<_> = requests.iter().map(Request::view).collect();
        let raw: Vec<_> = views.iter().map(request::View::raw).collect();
        let batch = RawBatch { verb: RawVerb::PREDICT, requests: RSlice::from_slice(&raw) };
        let failed = |error: Error| raw.iter().map(|_| Err(error.clone())).collect();
        let mut prepared = match self.prepare(&batch) {
            Ok(prepared) => prepared,
            Err(error) => return failed(error),
        };
        if let Err(error) = self.instance.infer(&mut prepared, &self.services) {
            return failed(reason(error));
        }
        let finisher = self.second.as_mut().unwrap_or(&mut self.instance);
        let (outcomes, result) = finisher.finish(&batch, &mut prepared, &self.services, &self.audience);
        answers(outcomes, result)
    }

    fn prepare(&mut self, batch: &RawBatch<'_>) -> Result<Vec<Prepared>> {
        if self.second.is_none() && self.instance.state_version().is_none() {
            self.second = Some(make(&self.export, &self.info, &self.services)?);
        }
        let preparer: &mut Instance = self.second.as_mut().unwrap_or(&mut self.instance);
        let prepared: Result<_, CallError> = batch
            .requests
            .iter()
            .enumerate()
            .map(|(place, request)| {
                let audience = AudienceOfOne { audience: &self.audience, place };
                preparer.prepare(request, &self.services, &audience)
            })
            .collect();
        prepared.map_err(reason)
    }
}

// === impl AudienceOfOne ===

impl Clients for AudienceOfOne<'_> {
    fn send(&self, index: usize, piece: Answer) -> bool {
        self.audience.send(self.place + index, piece)
    }

    fn want(&self, index: usize) -> bool {
        self.audience.want(self.place + index)
    }
}
