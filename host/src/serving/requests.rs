//! What an endpoint is asked: each request waits in its queue, for as long as its client does, and is counted.

use std::time::Duration;
use std::time::Instant;

use super::Answered;
use super::Endpoint;
use super::Headers;
use super::Request;
use super::ServeError;
use super::Urgency;
use super::Verb;
use super::job::Done;
use super::job::Job;
use super::job::Task;
use super::queue::Pushed;
use crate::metrics::AskedVersion;

impl Endpoint {
    /// Takes a request in and waits for its whole answer, for as long as the client does.
    ///
    /// It is refused at once where the queue is full, where no worker will ever come, or where the server is closing.
    pub async fn predict(
        &self,
        request: Request,
        urgency: Urgency,
        asked: AskedVersion,
    ) -> Result<handler_sdk::Answer, ServeError> {
        self.ask(request, urgency, asked).await?.whole().await
    }

    /// What the handler says of itself: a JSON object, or `None` where it says nothing.
    ///
    /// It takes its turn among the requests, and the response timeout is the same.
    pub async fn describe(&self) -> Result<Option<serde_json::Value>, ServeError> {
        let mut headers = Headers::default();
        headers.push("describe", "True");
        let request =
            Request { verb: Verb::Describe, id: uuid::Uuid::new_v4().to_string(), headers, fields: Vec::new() };
        let (job, answer) = Job::new(request, Urgency::default(), None);
        self.queue.push(job)?;
        let Done { reply, .. } = answer.await.map_err(|_| ServeError::WorkerDied)?;
        let answer = match reply {
            Ok(answer) => answer.whole().await,
            Err(error) => Err(error),
        };
        let words = match answer {
            Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
            // A handler of an SDK that knew no descriptions.
            Err(ServeError::Handler(error)) if error.status() == 501 => serde_json::Value::Null,
            Err(error) => return Err(error),
        };
        // As in TorchServe, what is no object says as much as an empty one.
        let object = if words.is_object() { words.clone() } else { serde_json::json!({}) };
        Ok(Some(object).filter(|_| !words.is_null()))
    }

    /// Takes a request in and waits for its answer, or for the first piece of it, for as long as the client does.
    pub async fn ask(&self, request: Request, urgency: Urgency, asked: AskedVersion) -> Result<Answered, ServeError> {
        // What a handler says of itself is no inference.
        if request.verb == Verb::Describe {
            return Ok(self.wait_for(request, urgency).await?.0);
        }
        self.counted(request, urgency, asked).await
    }

    /// Puts a task into the queue and waits for what comes of it; the metrics hear of both.
    pub(super) async fn counted(
        &self,
        task: impl Into<Task>,
        urgency: Urgency,
        asked: AskedVersion,
    ) -> Result<Answered, ServeError> {
        let began = Instant::now();
        self.metrics.request_accepted(asked);
        match self.wait_for(task, urgency).await {
            Ok((answer, queued)) => {
                self.metrics.request_answered(asked, began.elapsed(), queued);
                Ok(answer)
            }
            Err(error) => {
                self.metrics.request_failed(error.failure());
                Err(error)
            }
        }
    }

    /// The answer, with the time that its task was in the queue.
    async fn wait_for(&self, task: impl Into<Task>, urgency: Urgency) -> Result<(Answered, Duration), ServeError> {
        let (job, answer) = Job::new(task, urgency, self.settings.load().client_timeout);
        let deadline = job.deadline;
        if self.queue.push_first(job)? == Pushed::CallLeft {
            // The others that have come meanwhile are put into the queue, too; then one call is enough for all.
            tokio::task::yield_now().await;
            self.queue.call();
        }
        let done = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| ServeError::Expired)?
            }
            None => answer.await,
        };
        // A worker that goes without a word drops its end.
        let Done { reply, queued } = done.map_err(|_| ServeError::WorkerDied)?;
        Ok((reply?, queued))
    }
}
