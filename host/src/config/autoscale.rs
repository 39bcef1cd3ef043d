//! When the number of a model's workers follows its load.

use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::settings::Settings;

/// How long a load must have lasted before workers come or go, between a model's minWorkers and maxWorkers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoscaleConfig {
    /// Requests have waited for so long, and no worker was idle.
    pub grow_after: Duration,
    /// A worker has been idle for so long, and no request waited.
    pub shrink_after: Duration,
}

pub(super) const GROW: &str = "sconce_scale_up_after_ms";
pub(super) const SHRINK: &str = "sconce_scale_down_after_ms";

// === impl AutoscaleConfig ===

impl AutoscaleConfig {
    pub(super) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let default = Self::default();
        let millis = |key, otherwise| {
            Ok(settings.number(key, 1)?.map_or(otherwise, |number| Duration::from_millis(number.into())))
        };
        Ok(Self { grow_after: millis(GROW, default.grow_after)?, shrink_after: millis(SHRINK, default.shrink_after)? })
    }
}

impl Default for AutoscaleConfig {
    fn default() -> Self {
        Self { grow_after: Duration::from_millis(500), shrink_after: Duration::from_secs(30) }
    }
}
