//! A request in flight: what was asked, who waits for it, and since when.

use std::time::Duration;
use std::time::Instant;

use handler_sdk::Answer;
use tokio::sync::oneshot;

use super::Answered;
use super::ModelCall;
use super::NamedTensor;
use super::Pieces;
use super::Request;
use super::ServeError;
use super::Verb;
use super::stream::PieceSender;
use crate::plugin::Prepared;

/// What came of one job.
pub(super) type Reply = Result<Output, ServeError>;

/// What is asked of a worker.
#[derive(Debug)]
pub(super) enum Task {
    /// An answer of the handler.
    Handler(Request),
    /// What the model gives, without the handler.
    Model(ModelCall),
}

/// What a worker has made of a task of either kind.
#[derive(Debug)]
pub(super) enum Output {
    ByHandler(Answer),
    ByModel(Vec<NamedTensor>),
}

/// A request with its own way back.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) arrived: Instant,
    /// Past this instant nobody wants the answer any more.
    pub(super) deadline: Option<Instant>,
    pub(super) urgency: Urgency,
    pub(super) reply: ReplyTo,
    /// What the serving generation has made of it ahead of its batch.
    pub(super) prepared: Option<Prepared>,
}

/// How soon a request wants to be served, as RFC 9218 has it: from 0, before all others, to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency(u8);

/// Where the one reply of a job goes, at once or in pieces.
#[derive(Debug)]
pub(super) struct ReplyTo(Way);

#[derive(Debug)]
enum Way {
    /// Nothing was said yet.
    Open(oneshot::Sender<Done>),
    /// Pieces are on their way.
    InPieces(PieceSender),
    /// The client had gone when the first piece came.
    Gone,
}

/// A reply with its times.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) reply: Result<Answered, ServeError>,
    /// From the request's arrival until a worker took it; all of its time where none did.
    pub(super) queued: Duration,
}

// === impl Job ===

impl Job {
    /// A job, and the end at which its reply comes out.
    pub(super) fn new(
        task: impl Into<Task>,
        urgency: Urgency,
        limit: Option<Duration>,
    ) -> (Self, oneshot::Receiver<Done>) {
        let (sender, receiver) = oneshot::channel();
        let arrived = Instant::now();
        let job = Self {
            task: task.into(),
            arrived,
            deadline: limit.and_then(|limit| arrived.checked_add(limit)),
            urgency,
            reply: ReplyTo(Way::Open(sender)),
            prepared: None,
        };
        (job, receiver)
    }

    /// Whether both may be answered in one call of the handler. A call of the model goes alone.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        match (&self.task, &other.task) {
            (Task::Handler(one), Task::Handler(other)) => one.verb == other.verb && one.verb != Verb::Describe,
            _ => false,
        }
    }

    /// Whether it can be asked of a handler in steps.
    pub(super) fn has_steps(&self) -> bool {
        matches!(&self.task, Task::Handler(request) if request.verb == Verb::Predict)
    }

    /// Whether the client has gone.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.reply.is_wanted()
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Answers without having computed.
    pub(super) fn refuse(self, error: ServeError) {
        let queued = self.arrived.elapsed();
        self.reply.send(Err(error), queued);
    }
}

// === impl Task ===

impl Task {
    /// What the handler is asked.
    pub(super) fn request(&self) -> Option<&Request> {
        match self {
            Self::Handler(request) => Some(request),
            Self::Model(_) => None,
        }
    }
}

// === impl Output ===

impl Output {
    /// Only a handler answers in pieces.
    fn by_handler(self) -> Result<Answer, ServeError> {
        match self {
            Self::ByHandler(answer) => Ok(answer),
            Self::ByModel(_) => Err(ServeError::WorkerDied),
        }
    }

    fn into_answered(self) -> Answered {
        match self {
            Self::ByHandler(answer) => Answered::Whole(answer),
            Self::ByModel(tensors) => Answered::Tensors(tensors),
        }
    }
}

impl From<Request> for Task {
    fn from(request: Request) -> Self {
        Self::Handler(request)
    }
}

impl From<ModelCall> for Task {
    fn from(call: ModelCall) -> Self {
        Self::Model(call)
    }
}

// === impl Urgency ===

impl Urgency {
    /// Any number beyond 7 counts as 7.
    pub fn new(number: u8) -> Self {
        Self(number.min(7))
    }
}

impl Default for Urgency {
    fn default() -> Self {
        Self(3)
    }
}

// === impl ReplyTo ===

impl ReplyTo {
    pub(super) fn send(self, reply: Reply, queued: Duration) {
        match self.0 {
            // A client that has gone meanwhile is no error.
            Way::Open(way) => drop(way.send(Done { reply: reply.map(Output::into_answered), queued })),
            Way::InPieces(way) => way.end(reply.and_then(Output::by_handler)),
            Way::Gone => {}
        }
    }

    /// Sends the first piece, which says whether there is anybody; one of the others comes back, to be sent where nothing is locked.
    pub(super) fn stream(&mut self, piece: Answer, queued: Duration) -> Result<bool, (PieceSender, Answer)> {
        match std::mem::replace(&mut self.0, Way::Gone) {
            Way::Open(way) => {
                let (sender, pieces) = Pieces::of_this_thread();
                let reply = Ok(Answered::InPieces(piece, pieces));
                let begun = way.send(Done { reply, queued }).is_ok();
                if begun {
                    self.0 = Way::InPieces(sender);
                }
                Ok(begun)
            }
            Way::InPieces(way) => {
                self.0 = Way::InPieces(way.clone());
                Err((way, piece))
            }
            Way::Gone => Ok(false),
        }
    }

    /// Whether the client waits for more.
    pub(super) fn is_wanted(&self) -> bool {
        match &self.0 {
            Way::Open(way) => !way.is_closed(),
            Way::InPieces(way) => way.is_wanted(),
            Way::Gone => false,
        }
    }

    /// Whether something was said already, which can't be taken back.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.0, Way::Open(_))
    }
}
