//! What is asked of an endpoint's handler: answers, whole or in pieces, and what it says of itself.

use serde_json::Value as Json;

use super::Endpoint;
use super::HandlerAnswer;
use super::Request;
use super::ServeError;
use super::Urgency;
use super::Verb;
use super::job::Answered;
use super::job::Done;
use super::job::Job;
use super::job::Reply;

impl Endpoint {
    /// Takes a request in and waits for its whole answer, for as long as the client does.
    ///
    /// It is refused at once where the queue is full, where no worker will ever come, or where the server is closing.
    pub async fn predict(&self, request: Request, urgency: Urgency) -> Result<handler_sdk::Answer, ServeError> {
        self.stream(request, urgency).await?.whole().await
    }

    /// The same for a client that takes the answer in pieces: it is waited for only until the first is there.
    pub async fn stream(&self, request: Request, urgency: Urgency) -> Result<HandlerAnswer, ServeError> {
        by_handler(self.ask(request, urgency).await)
    }

    /// What the handler says of itself: a JSON object, or `None` where it says nothing.
    ///
    /// It takes its turn among the requests, and the response timeout is the same.
    pub async fn describe(&self) -> Result<Option<Json>, ServeError> {
        let request = Request {
            verb: Verb::Describe,
            id: uuid::Uuid::new_v4().to_string(),
            headers: vec![("describe".to_owned(), "True".to_owned())],
            fields: Vec::new(),
        };
        let (job, answer) = Job::new(request, Urgency::default(), None);
        self.queue.push(job)?;
        // A worker that goes without a word drops its end.
        let Done { reply, .. } = answer.await.map_err(|_| ServeError::WorkerDied)?;
        let answer = match by_handler(reply) {
            Ok(answer) => answer.whole().await,
            Err(error) => Err(error),
        };
        let words = match answer {
            Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
            // A handler of an SDK that knew no descriptions.
            Err(ServeError::Handler(error)) if error.status() == 501 => Json::Null,
            Err(error) => return Err(error),
        };
        Ok(match words {
            Json::Null => None,
            Json::Object(_) => Some(words),
            // As in TorchServe, what is no object says as much as an empty one.
            _ => Some(Json::Object(serde_json::Map::new())),
        })
    }
}

fn by_handler(reply: Reply) -> Result<HandlerAnswer, ServeError> {
    match reply? {
        Answered::ByHandler(answer) => Ok(answer),
        // The worker has mistaken the task.
        Answered::ByModel(_) => Err(ServeError::WorkerDied),
    }
}
