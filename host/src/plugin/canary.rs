//! The trial of a library in a process of its own: what kills it there leaves the server alone.
//!
//! The server has a keeper, which has libtorch loaded, opens nothing, and forks a canary for each trial: so a trial costs milliseconds, where a start costs a quarter of a second.
//! The first one is forked off the server itself before that has a second thread, later ones are its own program, started once more.
//! The canary opens the library, checks the layout in full, makes the handler, initialises it, runs its self-test, drops it, opens the library once more as a swap would, and ends.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use handler_sdk::ContextInfo;
use serde::Deserialize;
use serde::Serialize;

use super::PluginError;
use super::StagedLibrary;
use super::keeper::Keeper;
use crate::ids::Digest;

/// A step of the trial, as it is named to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Libraries of operators, which the model needs.
    Operators,
    Open,
    /// Compiled code of the archive's, which runs as soon as it is loaded.
    Model,
    Create,
    Initialize,
    SelfTest,
    Drop,
    OpenAgain,
}

/// What is to be tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanaryRequest {
    pub handler: String,
    pub context: ContextInfo,
    /// The model file, for a handler that asks for it; it is read on the CPU, and only then, unless it is compiled code.
    pub model: Option<PathBuf>,
    /// The content of the archive: with another one, a trial that passed says nothing.
    pub package: Option<Digest>,
    /// Libraries of operators that are opened before anything else, in this order.
    pub operators: Vec<PathBuf>,
}

/// Tries libraries, and remembers which have passed.
#[derive(Debug)]
pub struct Canary {
    program: PathBuf,
    /// By the library's digest and all that it was tried with.
    passed: Mutex<HashSet<(Digest, String)>>,
    /// Those without a trial just now; they end by themselves after a while.
    keepers: Mutex<Vec<Keeper>>,
}

/// From the server to a keeper: one trial.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Orders {
    Library(Box<LibraryTrial>),
    /// Libraries of operators alone, opened in this order.
    Operators {
        libraries: Vec<PathBuf>,
        /// Behind those of this program.
        with_own: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LibraryTrial {
    pub(super) library: PathBuf,
    /// The same bytes in another file.
    pub(super) again: PathBuf,
    pub(super) request: CanaryRequest,
}

/// From a keeper or its canary to the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The keeper has forked the canary, which leads a group of its own.
    Born {
        process: i32,
    },
    Begin(Step),
    Failed {
        step: Step,
        reason: String,
    },
    Layout {
        reason: String,
    },
    Passed,
    /// The canary is gone, and all that it started; the status is as `waitpid` gives it.
    Ended {
        status: i32,
    },
}

/// Forgetting costs a trial; a server that runs for months must not remember for ever.
const MOST_REMEMBERED: usize = 1024;

/// More keepers than this aren't kept waiting: it takes many models at once to have so many trials at once.
const MOST_KEEPERS: usize = 2;

// === impl Canary ===

impl Canary {
    /// `program` is the sconce binary, which must know the command `keeper`.
    pub fn new(program: PathBuf, first_keeper: Option<Keeper>) -> Self {
        Self { program, passed: Mutex::default(), keepers: Mutex::new(first_keeper.into_iter().collect()) }
    }

    /// Starts a keeper unless one is there, which loads libtorch while the caller does something else: the first trial needn't wait for it.
    pub fn make_ready(&self) {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        if keepers.is_empty() {
            // Where it can't be started, the trial says so.
            keepers.extend(Keeper::start(&self.program));
        }
    }

    /// Runs the trial of a private copy, or returns at once if the same bytes have passed the same trial before.
    pub fn try_library(
        &self,
        staged: &StagedLibrary,
        request: &CanaryRequest,
        limit: Duration,
    ) -> Result<(), PluginError> {
        let unavailable = |reason: String| PluginError::TrialUnavailable { path: staged.source().to_owned(), reason };
        let key = serde_json::to_string(request).map_err(|error| unavailable(error.to_string()))?;
        let key = (staged.digest(), key);
        if self.passed().contains(&key) {
            return Ok(());
        }
        let again = staged.again()?;
        let (library, again_path) = (staged.path().to_owned(), again.path().to_owned());
        let trial = LibraryTrial { library, again: again_path, request: request.clone() };
        self.try_out(&Orders::Library(Box::new(trial)), staged.source(), limit)?;
        let mut passed = self.passed();
        if passed.len() >= MOST_REMEMBERED {
            passed.clear();
        }
        passed.insert(key);
        Ok(())
    }

    /// Opens libraries of operators, in this order; `source` is the author's file of the last one, for messages.
    pub(super) fn try_operators(
        &self,
        libraries: Vec<PathBuf>,
        with_own: bool,
        source: &Path,
        limit: Duration,
    ) -> Result<(), PluginError> {
        self.try_out(&Orders::Operators { libraries, with_own }, source, limit)
    }

    fn try_out(&self, orders: &Orders, source: &Path, limit: Duration) -> Result<(), PluginError> {
        let unavailable = |reason: String| PluginError::TrialUnavailable { path: source.to_owned(), reason };
        let mut orders = serde_json::to_vec(orders).map_err(|error| unavailable(error.to_string()))?;
        orders.push(b'\n');
        let mut keeper = self.keeper().map_err(|error| unavailable(error.to_string()))?;
        let mut verdict = keeper.try_out(&orders, source, limit);
        if let Err(PluginError::TrialLost { .. }) = verdict {
            // Not the library's doing, most likely: somebody killed it, or it has just ended for want of work.
            keeper = Keeper::start(&self.program).map_err(|error| unavailable(error.to_string()))?;
            verdict = keeper.try_out(&orders, source, limit);
        }
        verdict?;
        // Only one whose canary has passed is asked again: the next trial begins as clean as this one.
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        if keepers.len() < MOST_KEEPERS {
            keepers.push(keeper);
        }
        Ok(())
    }

    /// One that waits for orders, or a new one.
    fn keeper(&self) -> std::io::Result<Keeper> {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(keeper) = keepers.pop() {
            if keeper.is_waiting() {
                return Ok(keeper);
            }
        }
        drop(keepers);
        Keeper::start(&self.program)
    }

    fn passed(&self) -> MutexGuard<'_, HashSet<(Digest, String)>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operators => "opening the operator libraries (torchLibraries in model-config.yaml)",
            Self::Open => "opening the library",
            Self::Model => "loading the archive's compiled model",
            Self::Create => "making the handler",
            Self::Initialize => "initialize",
            Self::SelfTest => "self_test",
            Self::Drop => "dropping the handler",
            Self::OpenAgain => "opening it a second time (as a swap does)",
        })
    }
}
