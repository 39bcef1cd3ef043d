//! The configuration as it is shown to the operator: each value, and where it comes from.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::access;
use crate::config::autoscale;
use crate::config::error::Origin;
use crate::config::keys;
use crate::config::keys::Treatment;
use crate::config::metrics;
use crate::config::requests;
use crate::config::server::ServerConfig;
use crate::config::settings::Settings;
use crate::config::swap;
use crate::config::swap::Unload;

/// A configuration with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub config: ServerConfig,
    /// First what has an effect, then what was set in vain.
    pub settings: Vec<Setting>,
    pub warnings: Vec<String>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// As it could be written into the file; empty where nothing is chosen, masked where it is a secret.
    pub value: String,
    /// `None`: nobody set it, and it is the default.
    pub origin: Option<Origin>,
    /// Why it changes nothing.
    pub no_effect: Option<&'static str>,
}

/// Switches that the configuration doesn't keep, since they only say how it is read.
const SWITCHES: [&str; 2] = ["enable_envvars_config", access::ENV_ALLOWED_URLS];

/// In place of a secret.
const MASK: &str = "***";

/// What the server goes by, and what of the settings has no effect.
pub(super) fn shown(config: &ServerConfig, settings: &Settings) -> Vec<Setting> {
    let effective = values(config);
    let honoured = keys::honoured().map(|key| {
        let value = effective.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
        // What the configuration has no field for is shown as it was written.
        let unset = if SWITCHES.contains(&key) { "false" } else { "" };
        let value = value.unwrap_or_else(|| one_line(settings.text(key).unwrap_or(unset)));
        Setting { key: key.to_owned(), value, origin: settings.origin(key).cloned(), no_effect: None }
    });
    let in_vain = settings.iter().filter_map(|property| {
        let why = match keys::treatment(&property.key) {
            Some(Treatment::Honoured) => return None,
            Some(Treatment::Told { why, .. }) => why,
            None => "it is unknown",
        };
        let value = if keys::is_secret(&property.key) { MASK.to_owned() } else { one_line(&property.value) };
        let origin = Some(property.origin.clone());
        Some(Setting { key: property.key.clone(), value, origin, no_effect: Some(why) })
    });
    honoured.chain(in_vain).collect()
}

fn values(config: &ServerConfig) -> Vec<(&'static str, String)> {
    let path = |path: &Option<PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string());
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",");
    let count = |count: &Option<usize>| count.map(|count| count.to_string());
    let seconds = |time: Duration| time.as_secs().to_string();
    let millis = |time: Duration| time.as_millis().to_string();
    let watch = config.swap.watch.as_ref();
    let unload = match config.swap.unload {
        Unload::Retain => "retain",
        Unload::Unmap => "unmap",
    };
    let load: Vec<String> = config.load_models.iter().map(|item| without_secrets(item)).collect();
    let (tokens, requests, measured) = (config.access.tokens.as_ref(), &config.requests, &config.metrics);
    vec![
        ("inference_address", config.inference_address.to_string()),
        ("management_address", config.management_address.to_string()),
        ("metrics_address", config.metrics_address.to_string()),
        ("model_store", path(&config.model_store).unwrap_or_default()),
        ("load_models", load.join(",")),
        ("plugins_path", paths(&config.plugins_path)),
        // TorchServe's word for "as many as there are GPUs or cores".
        ("default_workers_per_model", count(&config.default_workers_per_model).unwrap_or_else(|| "0".to_owned())),
        ("default_response_timeout", seconds(config.default_response_timeout)),
        ("default_startup_timeout", seconds(config.default_startup_timeout)),
        ("unregister_model_timeout", seconds(config.unregister_model_timeout)),
        ("job_queue_size", config.job_queue_size.to_string()),
        ("max_request_size", config.max_request_size.to_string()),
        ("max_response_size", config.max_response_size.to_string()),
        ("number_of_gpu", count(&config.number_of_gpu).unwrap_or_default()),
        ("default_service_handler", config.default_service_handler.clone().unwrap_or_default()),
        ("enable_metrics_api", config.enable_metrics_api.to_string()),
        (access::NO_TOKENS, tokens.is_none().to_string()),
        (
            access::EXPIRATION,
            tokens.map_or(String::new(), |tokens| (tokens.expiration.as_secs_f64() / 60.0).to_string()),
        ),
        (access::MODEL_API, config.access.enable_model_api.to_string()),
        (access::ALLOWED_URLS, config.access.allowed_urls.to_string()),
        (requests::ENVELOPE, requests.envelope.to_string()),
        (requests::LIMIT_PIXELS, requests.limit_image_pixels.to_string()),
        (metrics::MODE, measured.mode.as_str().to_owned()),
        (metrics::DEFINITIONS, path(&measured.definitions).unwrap_or_default()),
        (metrics::AUTO_DETECT, measured.auto_detect.to_string()),
        (metrics::NO_SYSTEM, measured.system_interval.is_none().to_string()),
        (metrics::SYSTEM_INTERVAL, measured.system_interval.map_or(String::new(), seconds)),
        (requests::SLOW_CLIENT, millis(requests.slow_client)),
        (keys::WORK_DIR, path(&config.work_dir).unwrap_or_default()),
        (swap::WATCH, watch.is_some().to_string()),
        (swap::SETTLE, watch.map_or(String::new(), |watch| millis(watch.settle))),
        (swap::POLL, watch.and_then(|watch| watch.poll).map_or(String::new(), millis)),
        (swap::UNLOAD, unload.to_owned()),
        (swap::ROLLBACK, config.swap.rollback_after_panics.unwrap_or(0).to_string()),
        (autoscale::GROW, millis(config.autoscale.grow_after)),
        (autoscale::SHRINK, millis(config.autoscale.shrink_after)),
    ]
}

/// A URL may carry a password before its host, or a signature after a question mark.
fn without_secrets(item: &str) -> String {
    let Some((scheme, rest)) = item.split_once("://") else { return item.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, _)| (place, "?"));
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = host.rsplit_once('@').map_or_else(|| host.to_owned(), |(_, host)| format!("{MASK}@{host}"));
    let query = if query.is_empty() { String::new() } else { format!("?{MASK}") };
    format!("{scheme}://{host}{path}{query}")
}

/// JSON is written over many lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::ConfigSources;
    use crate::config::Overrides;

    /// Those whose text is all there is to show.
    const AS_WRITTEN: [&str; 2] = ["models", "model_snapshot"];

    fn explain(text: &str) -> Explained {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.properties");
        std::fs::write(&file, text).unwrap();
        let variable = ("TS_JOB_QUEUE_SIZE".to_owned(), "7".to_owned());
        let overrides = Overrides { model_store: Some(PathBuf::from("/flag")), ..Overrides::default() };
        let environment = BTreeMap::from([variable]);
        let sources = ConfigSources { ts_config: Some(file), environment, overrides, ..ConfigSources::default() };
        ServerConfig::explain(&sources).unwrap()
    }

    #[test]
    fn each_key_that_counts_is_shown() {
        let values = values(&ServerConfig::default());
        for key in keys::honoured().filter(|key| !AS_WRITTEN.contains(key) && !SWITCHES.contains(key)) {
            assert!(
                values.iter().any(|(shown, _)| *shown == key),
                "{key} is shown nowhere: give it a line in values()"
            );
        }
        assert!(values.iter().all(|(shown, _)| keys::honoured().any(|key| key == *shown)));
    }

    #[test]
    fn each_value_says_where_it_comes_from() {
        let explained = explain(
            "max_request_size=10\nenable_envvars_config=true\nmodels={\\\n\"m\": {\\\n\"1.0\": {}}}\n\
             keystore_pass=hunter2\njob_queue_sise=3\nio_ratio=50\n\
             load_models=a=https://user:hunter2@host/a.mar?X-Amz-Signature=hunter2,b.mar\n",
        );
        let shown = |key: &str| {
            let setting = explained.settings.iter().find(|setting| setting.key == key);
            setting.unwrap_or_else(|| panic!("{key} isn't shown"))
        };
        let from = |key: &str| shown(key).origin.as_ref().map(|origin| origin.to_string()).unwrap_or_default();
        assert_eq!((shown("max_request_size").value.as_str(), from("max_response_size")), ("10", String::new()));
        assert!(from("max_request_size").ends_with("c.properties, line 1"));
        assert_eq!(from("job_queue_size"), "environment variable TS_JOB_QUEUE_SIZE");
        assert_eq!(from("model_store"), "flag --model-store");
        assert_eq!(shown("models").value, r#"{"m": {"1.0": {}}}"#);
        assert_eq!(shown("load_models").value, "a=https://***@host/a.mar?***,b.mar");
        assert_eq!(
            (shown("keystore_pass").value.as_str(), shown("job_queue_sise").no_effect),
            ("***", Some("it is unknown"))
        );
        assert!(shown("io_ratio").no_effect.is_some_and(|why| why.contains("JVM")));
        assert!(!format!("{:?}", explained.settings).contains("hunter2"));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let text = "token_expiration_min=0.5\nservice_envelope=kservev2\nsconce_unload=unmap\nnumber_of_gpu=0\n";
        let first = explain(text);
        let again: String =
            first.settings.iter().map(|setting| format!("{}={}\n", setting.key, setting.value)).collect();
        assert_eq!(ServerConfig { file: None, ..explain(&again).config }, ServerConfig { file: None, ..first.config });
    }
}
