//! Actions under way, each on a thread of its own: a slow load of one model doesn't hold up another's swap.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;

use super::plan::Action;
use super::target::Target;

#[derive(Clone)]
pub(super) struct Errands {
    target: Arc<dyn Target>,
    under_way: Arc<Mutex<HashMap<Action, After>>>,
}

/// What follows an action that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    /// The same once more, since files have changed again; however often they did.
    Again,
}

// === impl Errands ===

impl Errands {
    pub(super) fn new(target: Arc<dyn Target>) -> Self {
        Self { target, under_way: Arc::default() }
    }

    /// Has the action carried out now, or once more where it is under way.
    pub(super) fn run(&self, action: &Action) {
        let mut under_way = self.lock();
        if let Some(after) = under_way.get_mut(action) {
            *after = After::Again;
            return;
        }
        under_way.insert(action.clone(), After::Nothing);
        drop(under_way);
        self.start(action);
    }

    /// Always on a fresh thread: the start-up code of a library may run on it, and what it leaves there ends with it.
    fn start(&self, action: &Action) {
        let errands = self.clone();
        let next = action.clone();
        let thread = thread::Builder::new().name("swap".to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| errands.target.carry_out(next.clone()))).is_err() {
                tracing::error!(action = ?next, "this panicked, and what was served before is served still; this is a bug");
            }
            let mut under_way = errands.lock();
            if under_way.remove(&next) == Some(After::Again) {
                under_way.insert(next.clone(), After::Nothing);
                drop(under_way);
                errands.start(&next);
            }
        });
        if let Err(error) = thread {
            self.lock().remove(action);
            tracing::error!(?action, %error, "no thread for this; save the file again to try once more");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Action, After>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::sync::mpsc::Receiver;
    use std::sync::mpsc::Sender;
    use std::time::Duration;
    use std::time::Instant;

    use super::*;
    use crate::reload::bench::patience;
    use crate::serving::Served;

    /// Says what it begins, and goes on when it is told to; a closed channel makes it panic.
    struct Slow {
        begun: Mutex<Sender<Action>>,
        go_on: Mutex<Receiver<()>>,
    }

    impl Target for Slow {
        fn served(&self) -> Vec<Served> {
            Vec::new()
        }

        fn carry_out(&self, action: Action) {
            self.begun.lock().unwrap().send(action).unwrap();
            self.go_on.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap();
        }
    }

    fn take_in(name: &str) -> Action {
        Action::TakeIn { archive: PathBuf::from(name) }
    }

    #[test]
    fn the_same_action_is_repeated_once_and_others_do_not_wait() {
        let (begun, actions) = mpsc::channel();
        let (go_on, going_on) = mpsc::channel();
        let errands = Errands::new(Arc::new(Slow { begun: Mutex::new(begun), go_on: Mutex::new(going_on) }));
        let next = || actions.recv_timeout(patience()).unwrap();
        errands.run(&take_in("a"));
        assert_eq!(next(), take_in("a"));
        for _ in 0..3 {
            errands.run(&take_in("a"));
        }
        errands.run(&take_in("b"));
        assert_eq!(next(), take_in("b"));
        // Whichever of the two goes on first, `a` is done once more, and then no more.
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        assert_eq!(next(), take_in("a"));
        // A panic ends an action like any other.
        drop(go_on);
        let end = Instant::now() + patience();
        while !errands.lock().is_empty() {
            assert!(Instant::now() < end, "actions are under way for ever");
            thread::park_timeout(Duration::from_millis(1));
        }
        errands.run(&take_in("a"));
        assert_eq!(next(), take_in("a"));
        assert_eq!(actions.try_recv(), Err(mpsc::TryRecvError::Empty));
    }
}
