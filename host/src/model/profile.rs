//! Which of libtorch's operators a thread runs, and with what: recorded only while somebody asks for it.

use std::time::Duration;
use std::time::Instant;

/// Records the operators that libtorch runs on this thread, until it is ended; one at a time on a thread.
///
/// They are seen where they are dispatched: on a GPU that is where they are launched, not where they run.
/// What libtorch does on further threads of its own belongs to the operator that waits for it.
/// Without the feature `torch` there is nothing to record.
#[derive(Debug)]
pub struct OperatorRecorder {
    #[cfg(feature = "torch")]
    recording: Option<super::torch::Recording>,
}

/// What was recorded, in the order in which the operators began.
#[derive(Debug, Clone, Default)]
pub struct Operators {
    pub list: Vec<Operator>,
    /// How many more there were than there was room for.
    pub dropped: usize,
}

/// One run of an operator, or of a function of a model's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    pub name: String,
    pub kind: OperatorKind,
    pub began: Instant,
    pub took: Duration,
    /// How many others it runs inside of.
    pub depth: usize,
    pub inputs: Vec<Operand>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorKind {
    /// As `aten::conv2d`.
    Operator,
    /// A node of libtorch's autograd, which runs operators.
    Backward,
    /// A method of a model's TorchScript.
    Script,
    /// A range that a handler has named with libtorch's own means.
    Named,
}

/// What an operator was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// With its element type as Python calls it.
    Tensor {
        dtype: String,
        shape: Vec<i64>,
    },
    Tensors(Vec<Operand>),
    Scalar,
    /// Neither a tensor nor a number.
    Other,
}

// === impl OperatorRecorder ===

impl OperatorRecorder {
    /// Begins to record, at most that many.
    pub fn begin(most: usize) -> Self {
        #[cfg(not(feature = "torch"))]
        let _ = most;
        Self {
            #[cfg(feature = "torch")]
            recording: super::torch::Recording::begin(most),
        }
    }

    /// Ends it.
    pub fn end(self) -> Operators {
        #[cfg(feature = "torch")]
        return self.recording.map(super::torch::Recording::end).unwrap_or_default();
        #[cfg(not(feature = "torch"))]
        Operators::default()
    }
}
