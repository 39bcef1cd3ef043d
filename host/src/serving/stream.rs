//! An answer in pieces, on its way from a worker's thread to whoever waits for it.
//!
//! A worker waits for a slow reader only for a while, and never for one that has gone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use handler_sdk::Answer;
use tokio::sync::mpsc;

use super::NamedTensor;
use super::ServeError;

/// What comes back for a request that was taken in.
#[derive(Debug)]
pub enum Answered {
    Whole(Answer),
    /// The first piece, with the status and headers of all; and the others.
    InPieces(Answer, Pieces),
    /// What a call of the model gave.
    Tensors(Vec<NamedTensor>),
}

/// The pieces after the first.
#[derive(Debug)]
pub struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    /// Woken when there is a place again.
    worker: Thread,
    has_ended: bool,
}

/// The worker's end.
#[derive(Debug, Clone)]
pub(super) struct PieceSender {
    sender: mpsc::Sender<Piece>,
    /// A piece was lost, so that the answer can't be whole any more.
    is_broken: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Piece {
    Next(Bytes),
    /// Without it an answer isn't whole.
    Last(Bytes),
    Broken(ServeError),
}

/// How many pieces wait for a client that reads slowly.
const PLACES: usize = 16;

// === impl Answered ===

impl Answered {
    /// The answer as one, for those who can't do anything with pieces.
    pub async fn whole(self) -> Result<Answer, ServeError> {
        match self {
            Self::Whole(answer) => Ok(answer),
            Self::InPieces(mut answer, mut pieces) => {
                while let Some(piece) = pieces.next().await {
                    answer.body.extend_from_slice(&piece?);
                }
                Ok(answer)
            }
            // The worker has mistaken the task.
            Self::Tensors(_) => Err(ServeError::WorkerDied),
        }
    }
}

// === impl Pieces ===

impl Pieces {
    /// Pieces that the calling thread will send.
    pub(super) fn of_this_thread() -> (PieceSender, Self) {
        // One place more: the end of an answer never waits.
        let (sender, receiver) = mpsc::channel(PLACES + 1);
        let pieces = Self { receiver, worker: std::thread::current(), has_ended: false };
        (PieceSender { sender, is_broken: Arc::default() }, pieces)
    }

    /// The next piece; nothing comes after an error, which says that the answer has broken off.
    pub async fn next(&mut self) -> Option<Result<Bytes, ServeError>> {
        if self.has_ended {
            return None;
        }
        let piece = self.receiver.recv().await;
        self.worker.unpark();
        self.has_ended = !matches!(piece, Some(Piece::Next(_)));
        Some(match piece {
            Some(Piece::Next(bytes) | Piece::Last(bytes)) => Ok(bytes),
            Some(Piece::Broken(error)) => Err(error),
            // A worker that goes without a word drops its end.
            None => Err(ServeError::WorkerDied),
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // First, so that the worker sees why it was woken.
        self.receiver.close();
        self.worker.unpark();
    }
}

// === impl PieceSender ===

impl PieceSender {
    /// Sends from the thread that the pieces are of; `false` where the client has gone, or reads none of what waits for it for so long.
    pub(super) fn send(&self, piece: Vec<u8>, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while self.is_wanted() {
            if self.sender.capacity() > 1 {
                return self.sender.try_send(Piece::Next(piece.into())).is_ok();
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.is_broken.store(true, Ordering::Relaxed);
            } else {
                std::thread::park_timeout(left);
            }
        }
        false
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.sender.is_closed() && !self.is_broken.load(Ordering::Relaxed)
    }

    /// Ends the answer, whole or not.
    pub(super) fn end(&self, last: Result<Answer, ServeError>) {
        let piece = match last {
            Ok(_) if self.is_broken.load(Ordering::Relaxed) => Piece::Broken(ServeError::SlowClient),
            Ok(answer) => Piece::Last(answer.body.into()),
            Err(error) => Piece::Broken(error),
        };
        // A client that has gone is no error, and a place is always left.
        let _ = self.sender.try_send(piece);
    }
}

#[cfg(test)]
mod tests {
    use handler_sdk::Response;

    use super::*;

    const NO_TIME: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(3600);

    fn answer(body: &str) -> Answer {
        Response::text(body).outcome().unwrap().clone()
    }

    async fn rest(mut pieces: Pieces) -> Vec<Result<Bytes, ServeError>> {
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await {
            all.push(piece);
        }
        all
    }

    #[tokio::test]
    async fn pieces_come_in_order_and_end_once() {
        let (sender, pieces) = Pieces::of_this_thread();
        assert!(sender.send(b"one".to_vec(), NO_TIME) && sender.send(b"two".to_vec(), NO_TIME));
        sender.end(Ok(answer("three")));
        let whole = Answered::InPieces(answer("zero"), pieces).whole().await.unwrap();
        assert_eq!(whole.body, b"zeroonetwothree");
    }

    #[tokio::test]
    async fn an_answer_without_its_end_is_not_whole() {
        let (sender, pieces) = Pieces::of_this_thread();
        sender.send(b"one".to_vec(), NO_TIME);
        sender.end(Err(ServeError::NoWorker));
        assert_eq!(rest(pieces).await, [Ok("one".into()), Err(ServeError::NoWorker)]);
        let (sender, pieces) = Pieces::of_this_thread();
        drop(sender);
        assert_eq!(rest(pieces).await, [Err(ServeError::WorkerDied)]);
    }

    #[tokio::test]
    async fn a_slow_reader_gets_its_end_and_no_more() {
        let (sender, pieces) = Pieces::of_this_thread();
        let taken = (0..100).take_while(|_| sender.send(b"piece".to_vec(), NO_TIME)).count();
        assert_eq!(taken, PLACES);
        assert!(!sender.is_wanted());
        sender.end(Ok(answer("last")));
        let read = rest(pieces).await;
        assert_eq!(read.len(), PLACES + 1);
        assert_eq!(read.last().unwrap(), &Err(ServeError::SlowClient));
    }

    #[test]
    fn a_reader_wakes_the_worker_by_reading_and_by_going() {
        let (give, take) = std::sync::mpsc::channel();
        let worker = std::thread::spawn(move || {
            let (sender, pieces) = Pieces::of_this_thread();
            give.send(pieces).unwrap();
            (0..).take_while(|_| sender.send(b"piece".to_vec(), LONG)).count()
        });
        let mut pieces = take.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..3 * PLACES {
            assert_eq!(runtime.block_on(pieces.next()), Some(Ok("piece".into())));
        }
        drop(pieces);
        let sent = worker.join().unwrap();
        assert!((3 * PLACES..=4 * PLACES).contains(&sent), "{sent}");
    }
}
