//! What becomes of a request's body before a handler sees it.

use std::fmt;
use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::settings::Settings;

/// How requests are read for handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestConfig {
    pub envelope: Envelope,
    /// Whether handlers refuse pictures with very many pixels; they read it as a property.
    pub limit_image_pixels: bool,
    /// For so long a client may keep a connection waiting: for the whole head of its next request, or for the next bytes of a body.
    pub slow_client: Duration,
}

/// The form in which clients wrap their inputs, and expect the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Envelope {
    #[default]
    None,
    Body,
    Json,
    Kserve,
    KserveV2,
}

pub(super) const ENVELOPE: &str = "service_envelope";
pub(super) const LIMIT_PIXELS: &str = "limit_max_image_pixels";
pub(super) const SLOW_CLIENT: &str = "sconce_slow_client_ms";

/// Pools of clients keep their connections for about a minute.
const DEFAULT_SLOW_CLIENT: Duration = Duration::from_secs(75);

const ENVELOPES: [(&str, Envelope); 5] = [
    ("none", Envelope::None),
    ("body", Envelope::Body),
    ("json", Envelope::Json),
    ("kserve", Envelope::Kserve),
    ("kservev2", Envelope::KserveV2),
];

// === impl RequestConfig ===

impl RequestConfig {
    pub(super) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let envelope = match settings.text(ENVELOPE) {
            None => Envelope::None,
            Some(text) => ENVELOPES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, envelope)| *envelope)
                .ok_or_else(|| settings.bad(ENVELOPE, "none, body, json, kserve or kservev2"))?,
        };
        Ok(Self {
            envelope,
            limit_image_pixels: settings.switch(LIMIT_PIXELS, true)?,
            slow_client: settings
                .number(SLOW_CLIENT, 1)?
                .map_or(DEFAULT_SLOW_CLIENT, |number| Duration::from_millis(number.into())),
        })
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ENVELOPES.iter().find(|(_, envelope)| envelope == self).map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self { envelope: Envelope::None, limit_image_pixels: true, slow_client: DEFAULT_SLOW_CLIENT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::ServerConfig;

    #[test]
    fn what_the_operator_says_of_requests() {
        let folder = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let file = folder.path().join("config.properties");
            std::fs::write(&file, text).unwrap();
            let sources = ConfigSources { ts_config: Some(file), ..ConfigSources::default() };
            ServerConfig::load(&sources).map(|(config, _)| config.requests)
        };
        assert_eq!(load("").unwrap(), RequestConfig::default());
        for (text, envelope) in [("", Envelope::None), ("NONE", Envelope::None), ("kservev2", Envelope::KserveV2)] {
            assert_eq!(load(&format!("service_envelope={text}")).unwrap().envelope, envelope);
        }
        let raw = load("limit_max_image_pixels=false\nsconce_slow_client_ms=9").unwrap();
        let slow_client = Duration::from_millis(9);
        assert_eq!(raw, RequestConfig { envelope: Envelope::None, limit_image_pixels: false, slow_client });
        let message = load("service_envelope=xml").unwrap_err().to_string();
        assert!(
            message.contains("service_envelope = \"xml\" is not none, body, json, kserve or kservev2"),
            "{message}"
        );
    }
}
