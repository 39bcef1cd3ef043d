//! The clock that ends a connection whose next request takes too long to come.
//!
//! Hyper wants an alarm for each request, and sets it off for almost none. Here a connection has one, which is only moved when it rings too early: requests pass without touching the runtime's clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use hyper::rt::Sleep;
use hyper::rt::Timer;
use tokio::time;
use tokio::time::Instant;

/// Of one connection; each alarm is for a later time than the one before.
#[derive(Clone, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Option<Alarm>>>);

/// Rings at its time or before.
type Alarm = Pin<Box<time::Sleep>>;

/// Until a head must be there.
struct Wait {
    timer: HeadTimer,
    deadline: Instant,
}

// === impl HeadTimer ===

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { timer: self.clone(), deadline: deadline.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

impl fmt::Debug for HeadTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadTimer").finish_non_exhaustive()
    }
}

// === impl Wait ===

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = alarm.get_or_insert_with(|| Box::pin(time::sleep_until(self.deadline)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            // It was set for a request that came in time.
            alarm.as_mut().reset(self.deadline);
        }
    }
}

impl Sleep for Wait {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_all_of_its_time() {
        const LIMIT: Duration = Duration::from_secs(60);
        let timer = HeadTimer::default();
        for (came_after, waited) in [(Some(59), 59), (Some(2), 2), (Some(58), 58), (None, 60)] {
            let began = Instant::now();
            let wait = timer.sleep(LIMIT);
            match came_after {
                Some(seconds) => assert!(time::timeout(Duration::from_secs(seconds), wait).await.is_err()),
                None => wait.await,
            }
            // The runtime's clock counts whole milliseconds.
            let over = began.elapsed() - Duration::from_secs(waited);
            assert!(over < Duration::from_millis(5), "{came_after:?}: {over:?}");
        }
    }
}
