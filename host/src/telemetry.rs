//! The log: one line an event, to standard error, for people and for those who collect it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The variable that says what is logged, as `debug` or `info,handler=debug`.
pub const LOG_VARIABLE: &str = "SCONCE_LOG";

/// Starts the log; as `otherwise` says where [`LOG_VARIABLE`] says nothing.
///
/// Returns what is wrong with the variable, to be told once the log works.
pub fn start(otherwise: &str) -> Option<String> {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let (filter, complaint) = match EnvFilter::try_new(if wanted.is_empty() { otherwise } else { &wanted }) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::new("info"),
            Some(format!("{LOG_VARIABLE}={wanted:?} can't be understood ({error}); it is read as info,target=debug")),
        ),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start, in a test, leaves the first in place.
    let _ = log.try_init();
    complaint
}
