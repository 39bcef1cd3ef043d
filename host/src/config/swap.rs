//! How handlers are swapped while the server runs.

use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::settings::Settings;

/// What the operator wants of hot swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapConfig {
    /// `None`: files are looked at once, at start.
    pub watch: Option<WatchConfig>,
    pub unload: Unload,
    /// So many panics in a row roll a swapped generation back; `None`: never.
    pub rollback_after_panics: Option<u32>,
}

/// When a change of a file counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchConfig {
    /// For so long a file must have stayed as it is.
    pub settle: Duration,
    /// Between two looks where no event came; `None`: chosen by the file system.
    pub poll: Option<Duration>,
}

/// What becomes of the code of a retired generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unload {
    /// It stays mapped: the memory grows by a library a swap, and nothing that a library left behind can run into nothing.
    #[default]
    Retain,
    /// It is unmapped where no thread, signal handler or reference is left in it.
    Unmap,
}

pub(super) const WATCH: &str = "sconce_watch";
pub(super) const SETTLE: &str = "sconce_watch_settle_ms";
pub(super) const POLL: &str = "sconce_watch_poll_ms";
pub(super) const UNLOAD: &str = "sconce_unload";
pub(super) const ROLLBACK: &str = "sconce_rollback_after_panics";

const DEFAULT_SETTLE: u32 = 100;
const DEFAULT_ROLLBACK: u32 = 5;

// === impl SwapConfig ===

impl SwapConfig {
    pub(super) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let millis = |number: u32| Duration::from_millis(number.into());
        let watch = WatchConfig {
            settle: millis(settings.number(SETTLE, 0)?.unwrap_or(DEFAULT_SETTLE)),
            poll: settings.number(POLL, 10)?.map(millis),
        };
        let unload = match settings.text(UNLOAD).map(str::to_ascii_lowercase).as_deref() {
            None | Some("retain") => Unload::Retain,
            Some("unmap") => Unload::Unmap,
            Some(_) => return Err(settings.bad(UNLOAD, "retain or unmap")),
        };
        let panics = settings.number(ROLLBACK, 0)?.unwrap_or(DEFAULT_ROLLBACK);
        Ok(Self {
            watch: settings.switch(WATCH, true)?.then_some(watch),
            unload,
            rollback_after_panics: (panics > 0).then_some(panics),
        })
    }
}

impl Default for SwapConfig {
    fn default() -> Self {
        Self {
            watch: Some(WatchConfig { settle: Duration::from_millis(DEFAULT_SETTLE.into()), poll: None }),
            unload: Unload::default(),
            rollback_after_panics: Some(DEFAULT_ROLLBACK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::Overrides;
    use crate::config::ServerConfig;

    #[test]
    fn what_the_operator_says_of_swaps() {
        let folder = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let file = folder.path().join("config.properties");
            std::fs::write(&file, text).unwrap();
            let sources = ConfigSources { ts_config: Some(file), ..ConfigSources::default() };
            ServerConfig::load(&sources).map(|(config, warnings)| (config.swap, warnings))
        };
        assert_eq!(load("").unwrap(), (SwapConfig::default(), Vec::new()));
        let text = "sconce_watch=false\nsconce_unload=unmap\nsconce_rollback_after_panics=0\n";
        let off = SwapConfig { watch: None, unload: Unload::Unmap, rollback_after_panics: None };
        assert_eq!(load(text).unwrap(), (off, Vec::new()));
        let watch = load("sconce_watch_settle_ms=7\nsconce_watch_poll_ms=20\n").unwrap().0.watch.unwrap();
        assert_eq!((watch.settle.as_millis(), watch.poll.map(|poll| poll.as_millis())), (7, Some(20)));
        let message = load("sconce_unload=perhaps\n").unwrap_err().to_string();
        assert!(message.contains("sconce_unload = \"perhaps\" is not retain or unmap"), "{message}");

        let overrides = Overrides { watch: Some(false), unload: Some("unmap".to_owned()), ..Overrides::default() };
        let sources = ConfigSources { overrides, ..ConfigSources::default() };
        let swap = ServerConfig::load(&sources).unwrap().0.swap;
        assert_eq!((swap.watch, swap.unload), (None, Unload::Unmap));
    }
}
