//! The log: one line an event, to standard error, for people and for those who collect it.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use tracing_subscriber::EnvFilter;

/// The variable that says what is logged, as `debug` or `info,handler=debug`.
pub const LOG_VARIABLE: &str = "SCONCE_LOG";

/// Writes each event with all lines but its first indented: what a client or a handler has put into it can't pass for another event.
struct Indented<W>(W);

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
        .with_writer(|| Indented(io::stderr()))
        .with_ansi(io::stderr().is_terminal());
    // A second start, in a test, leaves the first in place.
    let _ = log.try_init();
    complaint
}

// === impl Indented ===

impl<W: Write> Write for Indented<W> {
    /// Takes a whole event, as the log gives it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut lines = Vec::with_capacity(event.len() + 64);
        for byte in text {
            match byte {
                b'\n' => lines.extend_from_slice(b"\n    "),
                // It would let a terminal write over what stands there.
                b'\r' => {}
                _ => lines.push(*byte),
            }
        }
        lines.extend_from_slice(&event[text.len()..]);
        self.0.write_all(&lines)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_event_begins_at_the_margin() {
        for (event, written) in [
            ("INFO one\n", "INFO one\n"),
            ("WARN error=a\nINFO forged\r\n\n", "WARN error=a\n    INFO forged\n    \n"),
            ("no end\nof line", "no end\n    of line"),
        ] {
            let mut log = Indented(Vec::new());
            log.write_all(event.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(log.0).unwrap(), written);
        }
    }
}
