//! The keys of `config.properties`: ours, and what becomes of TorchServe's others.

/// What Sconce does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Read by `ServerConfig`.
    Honoured,
    /// Read by nothing yet; told, unless the value is what Sconce does anyway.
    NotYet { quiet: &'static str },
    /// Of no meaning without a JVM or Python workers; told in one line, too.
    Foreign,
}

use super::access;
use super::autoscale;
use super::requests;
use super::swap;
use Treatment::Foreign;
use Treatment::Honoured;
use Treatment::NotYet;

const NOT_YET: Treatment = NotYet { quiet: "" };
const OFF: Treatment = NotYet { quiet: "false" };
const ON: Treatment = NotYet { quiet: "true" };

/// The folder for private copies of libraries and archives; TorchServe has no key that begins with `sconce_`.
pub(super) const WORK_DIR: &str = "sconce_work_dir";

const KEYS: &[(&str, Treatment)] = &[
    ("inference_address", Honoured),
    ("management_address", Honoured),
    ("metrics_address", Honoured),
    ("model_store", Honoured),
    ("load_models", Honoured),
    ("models", Honoured),
    ("plugins_path", Honoured),
    ("default_workers_per_model", Honoured),
    ("default_response_timeout", Honoured),
    ("default_startup_timeout", Honoured),
    ("unregister_model_timeout", Honoured),
    ("job_queue_size", Honoured),
    ("max_request_size", Honoured),
    ("max_response_size", Honoured),
    ("number_of_gpu", Honoured),
    ("default_service_handler", Honoured),
    ("enable_metrics_api", Honoured),
    ("enable_envvars_config", Honoured),
    (requests::LIMIT_PIXELS, Honoured),
    (requests::DECODE, Honoured),
    (requests::ENVELOPE, Honoured),
    (access::ALLOWED_URLS, Honoured),
    (access::ENV_ALLOWED_URLS, Honoured),
    (access::NO_TOKENS, Honoured),
    (access::EXPIRATION, Honoured),
    (access::MODEL_API, Honoured),
    (WORK_DIR, Honoured),
    (swap::WATCH, Honoured),
    (swap::SETTLE, Honoured),
    (swap::POLL, Honoured),
    (swap::UNLOAD, Honoured),
    (swap::ROLLBACK, Honoured),
    (autoscale::GROW, Honoured),
    (autoscale::SHRINK, Honoured),
    ("grpc_inference_address", NOT_YET),
    ("grpc_inference_port", NOT_YET),
    ("grpc_management_address", NOT_YET),
    ("grpc_management_port", NOT_YET),
    ("grpc_inference_max_connection_age_ms", NOT_YET),
    ("grpc_inference_max_connection_age_grace_ms", NOT_YET),
    ("grpc_management_max_connection_age_ms", NOT_YET),
    ("grpc_management_max_connection_age_grace_ms", NOT_YET),
    ("enable_grpc_ssl", OFF),
    ("workflow_store", NOT_YET),
    ("model_snapshot", NOT_YET),
    ("metrics_mode", NotYet { quiet: "prometheus" }),
    ("metrics_config", NOT_YET),
    ("model_metrics_auto_detect", OFF),
    ("disable_system_metrics", NOT_YET),
    ("system_metrics_cmd", NOT_YET),
    ("metric_time_interval", NOT_YET),
    ("cors_allowed_origin", NOT_YET),
    ("cors_allowed_methods", NOT_YET),
    ("cors_allowed_headers", NOT_YET),
    ("keystore", NOT_YET),
    ("keystore_pass", NOT_YET),
    ("keystore_type", NOT_YET),
    ("private_key_file", NOT_YET),
    ("certificate_file", NOT_YET),
    ("debug", OFF),
    ("model_server_home", NOT_YET),
    ("ts_open_inference_protocol", ON),
    ("ts_header_key_sequence_id", NOT_YET),
    ("ts_header_key_sequence_start", NOT_YET),
    ("ts_header_key_sequence_end", NOT_YET),
    ("number_of_netty_threads", Foreign),
    ("netty_client_threads", Foreign),
    ("install_py_dep_per_model", OFF),
    ("blacklist_env_vars", Foreign),
    ("async_logging", Foreign),
    ("prefer_direct_buffer", Foreign),
    ("use_native_io", Foreign),
    ("io_ratio", Foreign),
    ("initial_worker_port", Foreign),
    ("initial_distribution_port", Foreign),
    ("ipex_enable", OFF),
    ("ipex_gpu_enable", OFF),
    ("cpu_launcher_enable", OFF),
    ("cpu_launcher_args", Foreign),
    ("cpp_log_config", Foreign),
    ("vmargs", Foreign),
    ("python", Foreign),
];

/// Those that TorchServe never takes from the environment.
const NOT_FROM_ENVIRONMENT: &[&str] =
    &["models", "model_snapshot", "plugins_path", "enable_envvars_config", access::ENV_ALLOWED_URLS];

/// What becomes of a key; `None` for one that nobody knows.
pub(super) fn treatment(key: &str) -> Option<Treatment> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, treatment)| *treatment)
}

/// The keys that `enable_envvars_config` lets the environment set, each with its variable.
pub(super) fn environment_keys() -> impl Iterator<Item = (&'static str, String)> {
    KEYS.iter().map(|(key, _)| *key).filter(|key| !NOT_FROM_ENVIRONMENT.contains(key)).map(|key| (key, variable(key)))
}

/// The known key that is most like this one, if any is like it at all.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|(known, _)| (strsim::jaro_winkler(known, &key.to_ascii_lowercase()), *known))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn variable(key: &str) -> String {
    match key {
        "token_expiration_min" => "TS_TOKEN_EXPIRATION_TIME_MIN".to_owned(),
        _ if key.starts_with("ts_") || key.starts_with("sconce_") => key.to_ascii_uppercase(),
        _ => format!("TS_{}", key.to_ascii_uppercase()),
    }
}
