//! The keys of `config.properties`: ours, and what becomes of TorchServe's others.

/// What Sconce does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Read by `ServerConfig`.
    Honoured,
    /// Of no effect; told with the reason, unless the value is what Sconce does anyway.
    Told { quiet: &'static str, why: &'static str },
}

use super::access;
use super::autoscale;
use super::metrics;
use super::requests;
use super::swap;
use Treatment::Honoured;

const JVM: &str = "it tunes TorchServe's JVM, and there is none here";
const PYTHON: &str = "it is for Python workers, and handlers here are native code in the server's process";
const THREADS: &str =
    "the server has one thread for connections for every four cores, which is as many as the workers on them can use";
const PORTS: &str = "workers are threads of the server, which need no ports";
const ENVIRONMENT: &str =
    "handlers run in the server's process and see all of its environment; start the server without those variables";
const DECODING: &str = "handlers get each field as bytes, with its content type, and decode it themselves";
const DEBUG: &str = "it lets a Python worker be attached; for more log set the variable SCONCE_LOG=debug";
const LOG: &str = "the variable SCONCE_LOG says what is logged";
const HOME: &str = "all is in this program, which reads nothing from a home folder";
const OIP: &str = "the Open Inference Protocol is always answered, under /v2";
const GRPC: &str = "gRPC is not supported yet; the HTTP APIs answer";
const TLS: &str = "TLS is not supported yet; put a proxy that ends it in front";
const CORS: &str = "CORS headers are not supported yet; let a proxy in front add them";
const WORKFLOWS: &str = "workflows are not supported; TorchServe, too, refuses to register any";
const COLLECTOR: &str = "the server looks at the machine itself; disable_system_metrics=true keeps it from that";
const SEQUENCES: &str = "batching by sequence is not supported yet";

/// The folder for private copies of libraries and archives; TorchServe has no key that begins with `sconce_`.
pub(super) const WORK_DIR: &str = "sconce_work_dir";

const KEYS: &[(&str, Treatment)] = &[
    ("inference_address", Honoured),
    ("management_address", Honoured),
    ("metrics_address", Honoured),
    ("model_store", Honoured),
    ("load_models", Honoured),
    ("models", Honoured),
    ("model_snapshot", Honoured),
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
    told("decode_input_request", "false", DECODING),
    (requests::ENVELOPE, Honoured),
    (requests::SLOW_CLIENT, Honoured),
    (access::ALLOWED_URLS, Honoured),
    (access::ENV_ALLOWED_URLS, Honoured),
    (access::NO_TOKENS, Honoured),
    (access::EXPIRATION, Honoured),
    (access::MODEL_API, Honoured),
    (metrics::MODE, Honoured),
    (metrics::DEFINITIONS, Honoured),
    (metrics::AUTO_DETECT, Honoured),
    (metrics::NO_SYSTEM, Honoured),
    told(metrics::SYSTEM_COMMAND, "", COLLECTOR),
    (metrics::SYSTEM_INTERVAL, Honoured),
    (WORK_DIR, Honoured),
    (swap::WATCH, Honoured),
    (swap::SETTLE, Honoured),
    (swap::POLL, Honoured),
    (swap::UNLOAD, Honoured),
    (swap::ROLLBACK, Honoured),
    (autoscale::GROW, Honoured),
    (autoscale::SHRINK, Honoured),
    told("grpc_inference_address", "", GRPC),
    told("grpc_inference_port", "", GRPC),
    told("grpc_management_address", "", GRPC),
    told("grpc_management_port", "", GRPC),
    told("grpc_inference_max_connection_age_ms", "", GRPC),
    told("grpc_inference_max_connection_age_grace_ms", "", GRPC),
    told("grpc_management_max_connection_age_ms", "", GRPC),
    told("grpc_management_max_connection_age_grace_ms", "", GRPC),
    told("enable_grpc_ssl", "false", GRPC),
    told("workflow_store", "", WORKFLOWS),
    told("cors_allowed_origin", "", CORS),
    told("cors_allowed_methods", "", CORS),
    told("cors_allowed_headers", "", CORS),
    told("keystore", "", TLS),
    told("keystore_pass", "", TLS),
    told("keystore_type", "", TLS),
    told("private_key_file", "", TLS),
    told("certificate_file", "", TLS),
    told("debug", "false", DEBUG),
    told("model_server_home", "", HOME),
    told("ts_open_inference_protocol", "true", OIP),
    told("ts_header_key_sequence_id", "ts_request_sequence_id", SEQUENCES),
    told("ts_header_key_sequence_start", "ts_request_sequence_start", SEQUENCES),
    told("ts_header_key_sequence_end", "ts_request_sequence_end", SEQUENCES),
    told("number_of_netty_threads", "0", THREADS),
    told("netty_client_threads", "0", THREADS),
    told("install_py_dep_per_model", "false", PYTHON),
    told("blacklist_env_vars", "", ENVIRONMENT),
    told("async_logging", "false", JVM),
    told("prefer_direct_buffer", "false", JVM),
    told("use_native_io", "true", JVM),
    told("io_ratio", "50", JVM),
    told("initial_worker_port", "9000", PORTS),
    told("initial_distribution_port", "29500", PORTS),
    told("ipex_enable", "false", PYTHON),
    told("ipex_gpu_enable", "false", PYTHON),
    told("cpu_launcher_enable", "false", PYTHON),
    told("cpu_launcher_args", "", PYTHON),
    told("cpp_log_config", "", LOG),
    told("vmargs", "", JVM),
    told("python", "", PYTHON),
];

/// Those that TorchServe never takes from the environment.
const NOT_FROM_ENVIRONMENT: &[&str] = &[
    "models",
    "model_snapshot",
    "plugins_path",
    "enable_envvars_config",
    access::ENV_ALLOWED_URLS,
    metrics::SYSTEM_COMMAND,
    metrics::SYSTEM_INTERVAL,
    "use_native_io",
    "io_ratio",
    "vmargs",
    "python",
];

/// Those whose values are shown to nobody.
const SECRET: &[&str] = &["keystore_pass"];

/// All keys that have an effect, in the order in which they are shown.
pub(super) fn honoured() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(|(_, treatment)| *treatment == Honoured).map(|(key, _)| *key)
}

pub(super) fn is_secret(key: &str) -> bool {
    SECRET.contains(&key)
}

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

const fn told(key: &'static str, quiet: &'static str, why: &'static str) -> (&'static str, Treatment) {
    (key, Treatment::Told { quiet, why })
}

fn variable(key: &str) -> String {
    match key {
        "token_expiration_min" => "TS_TOKEN_EXPIRATION_TIME_MIN".to_owned(),
        _ if key.starts_with("ts_") || key.starts_with("sconce_") => key.to_ascii_uppercase(),
        _ => format!("TS_{}", key.to_ascii_uppercase()),
    }
}
