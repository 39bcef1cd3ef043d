//! A server's configuration as its operator writes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::config::ConfigError;
use crate::config::ConfigSources;
use crate::config::Overrides;
use crate::config::ServerConfig;

/// A config file named c.properties, and the sources that name it.
fn sources(text: &str) -> (TempDir, ConfigSources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.properties");
    fs::write(&path, text).unwrap();
    let sources = ConfigSources { ts_config: Some(path), ..ConfigSources::default() };
    (folder, sources)
}

fn load(text: &str) -> Result<(ServerConfig, Vec<String>), ConfigError> {
    let (_folder, sources) = sources(text);
    let (mut config, warnings) = ServerConfig::load(&sources)?;
    config.file = None;
    Ok((config, warnings))
}

#[test]
fn nothing_given_is_the_contracts_defaults() {
    let (config, warnings) = ServerConfig::load(&ConfigSources::default()).unwrap();
    assert_eq!(config, ServerConfig::default());
    assert_eq!(config.inference_address.to_string(), "http://127.0.0.1:8080");
    assert_eq!(config.management_address.to_string(), "http://127.0.0.1:8081");
    assert_eq!(config.metrics_address.to_string(), "http://127.0.0.1:8082");
    assert!(warnings.is_empty());
    assert_eq!(load("").unwrap().0, ServerConfig::default());
}

#[test]
fn the_file_is_read() {
    let (config, warnings) = load(
        "inference_address=http://0.0.0.0:8080\n\
         management_address=http://0.0.0.0\n\
         metrics_address=http://0.0.0.0:0\n\
         model_store=/models\n\
         load_models=a=a.mar, b.mar\n\
         plugins_path=/p/one,/p/two\n\
         default_workers_per_model=2\n\
         default_response_timeout=60\n\
         default_startup_timeout=30\n\
         job_queue_size=1000\n\
         max_request_size=10\n\
         max_response_size=20\n\
         number_of_gpu=1\n\
         default_service_handler=echo\n\
         enable_metrics_api=false\n\
         disable_token_authorization=true\n\
         install_py_dep_per_model=false\n\
         sconce_work_dir=/var/sconce\n\
         models={\\\n  \"m\": {\\\n    \"1.0\": {\\\n\"defaultVersion\": true,\\\n\
         \"marName\": \"m.mar\",\\\n\"minWorkers\": 1, \"maxWorkers\": 4,\\\n\
         \"batchSize\": 8, \"maxBatchDelay\": 50, \"responseTimeout\": 7\\\n}}}\n",
    )
    .unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.management_address.port, 8081);
    assert_eq!(config.metrics_address.port, 0);
    assert_eq!(config.model_store, Some(PathBuf::from("/models")));
    assert_eq!(config.load_models, ["a=a.mar", "b.mar"]);
    assert_eq!(config.plugins_path, [PathBuf::from("/p/one"), PathBuf::from("/p/two")]);
    assert_eq!(config.default_workers_per_model, Some(2));
    assert_eq!(config.default_response_timeout, Duration::from_secs(60));
    assert_eq!(config.default_startup_timeout, Duration::from_secs(30));
    assert_eq!(config.job_queue_size, 1000);
    assert_eq!((config.max_request_size, config.max_response_size), (10, 20));
    assert_eq!(config.number_of_gpu, Some(1));
    assert_eq!(config.default_service_handler.as_deref(), Some("echo"));
    assert!(!config.enable_metrics_api);
    assert_eq!(config.work_dir, Some(PathBuf::from("/var/sconce")));
    let version = &config.models["m"]["1.0"];
    assert_eq!((version.min_workers, version.max_workers), (Some(1), Some(4)));
    assert_eq!(version.batch_size, Some(8));
    assert_eq!(version.max_batch_delay, Some(Duration::from_millis(50)));
    assert_eq!(version.response_timeout, Some(Duration::from_secs(7)));
    assert_eq!(version.startup_timeout, None);
}

#[test]
fn flags_win_over_the_file_and_the_variable_over_the_flag_for_it() {
    let (folder, mut sources) = sources("model_store=/file\nload_models=all\njob_queue_size=5\n");
    sources.overrides = Overrides {
        model_store: Some(PathBuf::from("/flag")),
        models: vec!["m=m.mar".to_owned(), "n.mar".to_owned()],
        inference_address: Some("http://127.0.0.1:0".to_owned()),
        ..Overrides::default()
    };
    let (config, _) = ServerConfig::load(&sources).unwrap();
    assert_eq!(config.model_store, Some(PathBuf::from("/flag")));
    assert_eq!(config.load_models, ["m=m.mar", "n.mar"]);
    assert_eq!(config.inference_address.port, 0);
    assert_eq!(config.job_queue_size, 5);

    let other = folder.path().join("other.properties");
    fs::write(&other, "job_queue_size=6\n").unwrap();
    let variable = ("TS_CONFIG_FILE".to_owned(), other.display().to_string());
    sources.environment = BTreeMap::from([variable]);
    let (config, _) = ServerConfig::load(&sources).unwrap();
    assert_eq!(config.job_queue_size, 6);
    assert_eq!(config.file, Some(other));
}

#[test]
fn the_environment_counts_only_where_the_file_says_so() {
    let (_folder, mut sources) = sources("job_queue_size=5\n");
    let set = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    sources.environment = BTreeMap::from([
        set("TS_JOB_QUEUE_SIZE", "7"),
        set("TS_MODEL_STORE", "/environment"),
        set("TS_PLUGINS_PATH", "/never"),
    ]);
    sources.overrides.model_store = Some(PathBuf::from("/flag"));
    let (config, _) = ServerConfig::load(&sources).unwrap();
    assert_eq!(config.job_queue_size, 5);
    let file = sources.ts_config.clone().unwrap();
    fs::write(file, "job_queue_size=5\nenable_envvars_config=true\n").unwrap();
    let (config, _) = ServerConfig::load(&sources).unwrap();
    assert_eq!(config.job_queue_size, 7);
    assert_eq!(config.model_store, Some(PathBuf::from("/environment")));
    assert!(config.plugins_path.is_empty());
    sources.environment.insert("TS_JOB_QUEUE_SIZE".to_owned(), "x".to_owned());
    let message = ServerConfig::load(&sources).unwrap_err().to_string();
    assert!(message.starts_with("environment variable TS_JOB_QUEUE_SIZE: "), "{message}");
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = ConfigSources { current_dir: Some(folder.path().to_owned()), ..ConfigSources::default() };
    assert_eq!(ServerConfig::load(&sources).unwrap().0.file, None);
    let local = folder.path().join("config.properties");
    fs::write(&local, "job_queue_size=9\n").unwrap();
    let (config, _) = ServerConfig::load(&sources).unwrap();
    assert_eq!((config.job_queue_size, config.file), (9, Some(local)));
    sources.ts_config = Some(folder.path().join("gone.properties"));
    let message = ServerConfig::load(&sources).unwrap_err().to_string();
    assert!(message.contains("gone.properties, which --ts-config names"), "{message}");
}

#[test]
fn what_has_no_effect_is_told() {
    for (line, expected) in [
        ("job_queue_sise=1", "line 1: job_queue_sise is unknown; is job_queue_size meant?"),
        ("Model_Store=x", "is model_store meant?"),
        ("zzz=1", "zzz is unknown; it has no effect"),
        ("enable_grpc_ssl=true", "enable_grpc_ssl has no effect: gRPC is not supported yet"),
        ("ts_open_inference_protocol=false", "is always answered, under /v2"),
        ("vmargs=-Xmx4g", "vmargs has no effect: it tunes TorchServe's JVM"),
        ("debug=false\nasync_logging=true", "line 2: async_logging has no effect: it tunes"),
        ("plugins_path=/p,endpoint.jar", "line 1: endpoint.jar has no effect: it is a plugin for TorchServe's JVM"),
        ("blacklist_env_vars=.*SECRET.*", "see all of its environment; start the server without those"),
        ("keystore=k.p12", "put a proxy that ends it in front"),
        ("cors_allowed_origin=*", "let a proxy in front add them"),
        ("number_of_netty_threads=32", "one thread for connections for every four cores"),
        ("load_models=a.mar\nmodel_snapshot={\"models\":{}}", "load_models gives way to model_snapshot"),
        ("job_queue_size=1\njob_queue_size=2", "line 2: job_queue_size was set before"),
        ("models={\"m\":{\"1\":{\"batchSize\":0}}}", "m 1: batchSize = 0 is ignored"),
        ("models={\"m\":{\"1\":{\"runtimeType\":\"java\"}}}", "runtimeType = \"java\" is ignored"),
        ("models={\"m\":{\"1\":{\"batchsize\":1}}}", "the key batchsize is unknown"),
    ] {
        let (_, warnings) = load(line).unwrap();
        assert_eq!(warnings.len(), 1, "{line}: {warnings:?}");
        assert!(warnings[0].contains(expected), "{line}: {warnings:?}");
    }
}

#[test]
fn what_is_wrong_is_placed() {
    for (line, expected) in [
        ("job_queue_size=many", "job_queue_size = \"many\" is not a whole number from 1 to 2147483647"),
        ("job_queue_size=0", "is not a whole number from 1"),
        ("job_queue_size=-1", "is not a whole number from 1"),
        ("number_of_gpu=1.5", "is not a whole number from 0"),
        ("default_response_timeout=0", "is not a whole number from 1"),
        ("enable_metrics_api=yes", "enable_metrics_api = \"yes\" is not true or false"),
        ("inference_address=localhost", "is not an address as http://127.0.0.1:80"),
        ("inference_address=https://localhost:8443", "https is not supported yet"),
        ("metrics_address=unix:/x", "unix sockets are not supported yet"),
        ("models={", "is not JSON as"),
        ("models=[]", "is not JSON as"),
        ("model_snapshot={}", "is not JSON as"),
        ("model_snapshot={\"models\":{\"m\":{\"1\":{}}}}", "m 1 has no marName"),
        ("model_store=$$NOPE$$", "variable NOPE, which is not set"),
    ] {
        let message = load(&format!("# remark\n{line}\n")).unwrap_err().to_string();
        assert!(message.contains("c.properties, line 2: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let sources = ConfigSources {
        overrides: Overrides { inference_address: Some("8080".to_owned()), ..Overrides::default() },
        ..ConfigSources::default()
    };
    let message = ServerConfig::load(&sources).unwrap_err().to_string();
    assert!(message.starts_with("flag --inference-address: "), "{message}");
}

#[test]
fn a_snapshot_says_what_to_load_and_how() {
    // As KServe writes it.
    let kserve = "inference_address=http://0.0.0.0:8085\nmanagement_address=http://0.0.0.0:8085\n\
        metrics_address=http://0.0.0.0:8082\nenable_metrics_api=true\nmodel_store=/mnt/models/model-store\n\
        number_of_netty_threads=4\nnumber_of_netty_threads=0\n\
        models={\"mnist\":{\"1.0\":{\"batchSize\":2}},\"other\":{\"1.0\":{\"batchSize\":3}}}\n\
        model_snapshot={\"name\":\"startup.cfg\",\"modelCount\":1,\"models\":{\"mnist\":{\"1.0\":{\"defaultVersion\":true,\\\n\
        \"marName\":\"mnist.mar\",\"minWorkers\":1,\"maxWorkers\":5,\"batchSize\":5,\"maxBatchDelay\":200,\"responseTimeout\":60}}}}\n";
    let (config, warnings) = load(kserve).unwrap();
    assert_eq!(warnings.len(), 1, "only the second of two equal keys is told: {warnings:?}");
    assert_eq!(config.load_models, ["mnist=mnist.mar"]);
    let version = &config.models["mnist"]["1.0"];
    assert_eq!((version.min_workers, version.max_workers, version.batch_size), (Some(1), Some(5), Some(5)));
    assert_eq!(version.max_batch_delay, Some(Duration::from_millis(200)));
    assert_eq!(config.models["other"]["1.0"].batch_size, Some(3));

    let (_folder, mut sources) = sources(kserve);
    sources.overrides.models = vec!["n.mar".to_owned()];
    assert_eq!(ServerConfig::load(&sources).unwrap().0.load_models, ["n.mar"]);
}

#[test]
fn plugins_beside_the_program_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let program_dir = Some(folder.path().to_owned());
    let mut sources = ConfigSources { program_dir, ..ConfigSources::default() };
    let plugins = |sources: &ConfigSources| ServerConfig::load(sources).unwrap().0.plugins_path;
    assert_eq!(plugins(&sources), Vec::<PathBuf>::new());
    fs::write(folder.path().join("libecho.so"), "").unwrap();
    assert_eq!(plugins(&sources), [folder.path()]);
    fs::create_dir(folder.path().join("plugins")).unwrap();
    assert_eq!(plugins(&sources), [folder.path().join("plugins")]);
    sources.overrides.plugins_path = Some(PathBuf::from("/elsewhere"));
    assert_eq!(plugins(&sources), [PathBuf::from("/elsewhere")]);
}
