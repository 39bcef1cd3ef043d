//! Who may do what: tokens, the model API, and where archives may be fetched from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use regex::RegexSet;
use regex::RegexSetBuilder;

use crate::config::error::ConfigError;
use crate::config::settings::Settings;

/// What clients are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessConfig {
    /// `None`: nobody is asked for a token.
    pub tokens: Option<TokenConfig>,
    /// Whether models may be registered and unregistered over HTTP.
    pub enable_model_api: bool,
    pub allowed_urls: AllowedUrls,
}

/// How tokens are given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// For so long the tokens of the inference and the management API count.
    pub expiration: Duration,
    /// Where the operator finds them.
    pub key_file: PathBuf,
}

/// The URLs that archives may be fetched from.
#[derive(Clone)]
pub struct AllowedUrls {
    /// As they were written.
    patterns: Vec<String>,
    set: RegexSet,
}

pub(super) const NO_TOKENS: &str = "disable_token_authorization";
pub(super) const EXPIRATION: &str = "token_expiration_min";
pub(super) const MODEL_API: &str = "enable_model_api";
pub(super) const ALLOWED_URLS: &str = "allowed_urls";
/// Whether the environment may set [`ALLOWED_URLS`], too.
pub(super) const ENV_ALLOWED_URLS: &str = "use_env_allowed_urls";

const KEY_FILE: &str = "key_file.json";
const DEFAULT_EXPIRATION: Duration = Duration::from_secs(60 * 60);
const DEFAULT_URLS: [&str; 2] = ["file://.*", "http(s)?://.*"];

// === impl AccessConfig ===

impl AccessConfig {
    pub(super) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let tokens = TokenConfig {
            expiration: settings.minutes(EXPIRATION)?.unwrap_or(DEFAULT_EXPIRATION),
            key_file: PathBuf::from(KEY_FILE),
        };
        Ok(Self {
            tokens: (!settings.switch(NO_TOKENS, false)?).then_some(tokens),
            enable_model_api: settings.switch(MODEL_API, false)?,
            allowed_urls: AllowedUrls::from_settings(settings)?,
        })
    }
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            tokens: Some(TokenConfig { expiration: DEFAULT_EXPIRATION, key_file: PathBuf::from(KEY_FILE) }),
            enable_model_api: false,
            allowed_urls: AllowedUrls::default(),
        }
    }
}

// === impl AllowedUrls ===

impl AllowedUrls {
    /// Regular expressions, of which one must match the whole URL in any letter case. The error is what is wrong.
    pub fn new(patterns: Vec<String>) -> Result<Self, String> {
        // First as they are: with text around it, a pattern with a stray parenthesis could mean something else.
        let build = |patterns: &[String]| RegexSetBuilder::new(patterns).case_insensitive(true).build();
        let anchored: Vec<_> = patterns.iter().map(|pattern| format!("^(?:{pattern})$")).collect();
        let set = build(&patterns).and_then(|_| build(&anchored)).map_err(|error| {
            // The message has several lines, of which the last says it.
            let said = error.to_string();
            said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(Self { patterns, set })
    }

    pub fn allow(&self, url: &str) -> bool {
        self.set.is_match(url)
    }

    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let patterns = settings.list(ALLOWED_URLS);
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        Self::new(patterns).map_err(|said| {
            settings.bad(ALLOWED_URLS, &format!("a list of regular expressions with commas between them: {said}"))
        })
    }
}

impl Default for AllowedUrls {
    fn default() -> Self {
        let patterns = DEFAULT_URLS.map(str::to_owned).to_vec();
        Self::new(patterns).expect("the default of allowed_urls is valid; otherwise this is a bug")
    }
}

impl PartialEq for AllowedUrls {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for AllowedUrls {}

impl fmt::Debug for AllowedUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AllowedUrls").field(&self.patterns).finish()
    }
}

/// As in TorchServe's own file: the patterns with commas between them.
impl fmt::Display for AllowedUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.patterns.join(","))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::ConfigSources;
    use crate::config::Overrides;
    use crate::config::ServerConfig;

    fn load(text: &str, variables: &[(&str, &str)], overrides: Overrides) -> Result<AccessConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.properties");
        std::fs::write(&file, text).unwrap();
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = BTreeMap::from_iter(environment);
        let sources = ConfigSources { ts_config: Some(file), environment, overrides, ..ConfigSources::default() };
        let (config, warnings) = ServerConfig::load(&sources).map_err(|error| error.to_string())?;
        assert!(warnings.is_empty(), "{warnings:?}");
        Ok(config.access)
    }

    #[test]
    fn what_the_operator_says_of_access() {
        let plain = |text: &str| load(text, &[], Overrides::default());
        assert_eq!(plain("").unwrap(), AccessConfig::default());
        let told = plain("token_expiration_min=0.5\nenable_model_api=true\nallowed_urls=file:///m/.*").unwrap();
        assert_eq!(told.tokens.unwrap().expiration, Duration::from_secs(30));
        assert!(told.enable_model_api);
        assert_ne!(told.allowed_urls, AllowedUrls::default());
        assert_eq!(plain("disable_token_authorization=true").unwrap().tokens, None);
        for (line, expected) in [
            ("token_expiration_min=0", "token_expiration_min = \"0\" is not a number of minutes above 0"),
            ("token_expiration_min=soon", "is not a number of minutes"),
            ("token_expiration_min=NaN", "is not a number of minutes"),
            ("enable_model_api=1", "enable_model_api = \"1\" is not true or false"),
            ("allowed_urls=http://(a", "a list of regular expressions with commas between them: unclosed group"),
            ("allowed_urls=a)|(b", "a list of regular expressions"),
        ] {
            let message = plain(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
        let overrides = Overrides { disable_token_auth: true, enable_model_api: true, ..Overrides::default() };
        let told = load("disable_token_authorization=false\nenable_model_api=false", &[], overrides).unwrap();
        assert_eq!((told.tokens, told.enable_model_api), (None, true));
    }

    #[test]
    fn a_url_is_allowed_when_a_pattern_matches_all_of_it() {
        let urls = AllowedUrls::default();
        for (url, allowed) in [
            ("http://host/m.mar", true),
            ("HTTPS://host/m.mar", true),
            ("file:///m.mar", true),
            ("ftp://host/m.mar", false),
            ("see http://host/m.mar", false),
            ("m.mar", false),
        ] {
            assert_eq!(urls.allow(url), allowed, "{url}");
        }
        let narrow = AllowedUrls::new(vec!["https://a/.*".to_owned(), "b|c".to_owned()]).unwrap();
        for (url, allowed) in [("https://a/x", true), ("http://a/x", false), ("C", true), ("bc", false)] {
            assert_eq!(narrow.allow(url), allowed, "{url}");
        }
    }

    #[test]
    fn the_environment_sets_allowed_urls_only_where_the_file_lets_it() {
        let variables = [("TS_ALLOWED_URLS", "x"), ("TS_ENABLE_MODEL_API", "true")];
        let with = |text: &str| load(text, &variables, Overrides::default()).unwrap();
        let told = with("enable_envvars_config=true");
        assert!(told.enable_model_api);
        assert_eq!(told.allowed_urls, AllowedUrls::default());
        let told = with("enable_envvars_config=true\nuse_env_allowed_urls=true");
        assert_eq!(told.allowed_urls.to_string(), "x");
        assert!(!with("").enable_model_api);
    }
}
