//! Profiles: on demand, what became of the time of one request, or of the next batches of an endpoint.
//!
//! Nothing is recorded, and next to nothing spent, while nobody asks.

mod chrome;
mod files;
mod profiler;
mod recording;
mod table;
mod trace;

pub use profiler::Profiling;
pub use profiler::Subject;
pub use trace::Trace;
pub use trace::TracedAnswer;

pub(super) use profiler::Profiler;
pub(super) use recording::Recording;

#[cfg(test)]
mod tests;
