//! A config in YAML, and what the server and the operator make of it.

use super::*;

fn parse(text: &str) -> Result<ModelConfig, String> {
    ModelConfig::parse(text, Path::new("model-config.yaml")).map_err(|e| e.to_string())
}

#[test]
fn the_handler_sees_all_and_the_server_what_it_knows() {
    let config = parse(
        "minWorkers: 2\nmaxWorkers: 4\nbatchSize: 8\nmaxBatchDelay: 50\nresponseTimeout: 30\n\
         startupTimeout: 60\ndeviceType: gpu\ndeviceIds: [0, 1]\njobQueueSize: 10\n\
         handler:\n  mean: 0.1307\n  labels: [yes, 'no']\n",
    )
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.value["handler"]["mean"], 0.1307);
    assert_eq!(config.value["handler"]["labels"][1], "no");
    let settings = config.settings;
    assert_eq!(settings.workers(), Some((2, 4)));
    assert_eq!(settings.batch_size, Some(8));
    assert_eq!(settings.max_batch_delay, Some(Duration::from_millis(50)));
    assert_eq!(settings.response_timeout, Some(Duration::from_secs(30)));
    assert_eq!(settings.startup_timeout, Some(Duration::from_secs(60)));
    assert_eq!(settings.device_type, Some(DeviceType::Gpu));
    assert_eq!(settings.device_ids, Some(vec![0, 1]));
    assert_eq!(settings.job_queue_size, Some(10));
}

#[test]
fn libraries_of_operators_are_a_list_or_one_name() {
    let libraries = |text: &str| parse(text).map(|config| (config.settings.torch_libraries, config.warnings.len()));
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (text, expected, warnings) in [
        ("torchLibraries: [liba.so, /opt/libb.so]", names(&["liba.so", "/opt/libb.so"]), 0),
        ("torchLibraries: liba.so", names(&["liba.so"]), 0),
        ("torchLibraries: []", Vec::new(), 0),
        ("torchLibraries: [1]", Vec::new(), 1),
        ("torch_libraries: [liba.so]", Vec::new(), 1),
    ] {
        assert_eq!(libraries(text).unwrap(), (expected, warnings), "{text}");
    }
}

#[test]
fn a_wrong_type_is_told_and_ignored() {
    let config = parse(
        "batchSize: '8'\nmaxBatchDelay: 1.5\nminWorkers: -1\ndeviceType: tpu\n\
         deviceIds: 0\nparallelType: pp\nuseVenv: false\n",
    )
    .unwrap();
    assert_eq!(config.settings, ModelSettings::default());
    let told = config.warnings.join("\n");
    for key in ["batchSize", "maxBatchDelay", "minWorkers", "deviceType", "deviceIds"] {
        assert!(told.contains(&format!("{key}: ")), "{told}");
    }
    assert!(told.contains("parallelType has no effect: a model lies on one device"), "{told}");
    assert_eq!(config.warnings.len(), 6, "{told}");
    // The handler still sees what was written.
    assert_eq!(config.value["batchSize"], "8");
}

#[test]
fn what_changes_nothing_is_told_with_the_reason() {
    for (text, expected) in [
        ("torchrun:\n  nproc-per-node: 4\n", "torchrun has no effect: a model lies on one device"),
        ("sequenceBatching: true", "batching by sequence"),
        ("continuousBatching: true", "not supported yet"),
        ("useVenv: true", "Python workers"),
        ("minWorkers: 2", "both must be given"),
        ("minWorkers: 2\nmaxWorkers: 1", "maxWorkers be at least minWorkers"),
        ("batch_size: 8", "batch_size has no effect on the server: batchSize is its key"),
        ("max-workers: 8", "maxWorkers is its key"),
        ("deviceids: [0]", "deviceIds is its key"),
    ] {
        let warnings = parse(text).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert!(warnings[0].contains(expected), "{text}: {warnings:?}");
    }
    for text in ["handler: {topk: 5}", "sequenceBatching: false", "size: 8", "minWorkers: 1\nmaxWorkers: 1"] {
        assert_eq!(parse(text).unwrap().warnings, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn zero_is_as_torchserve_reads_it() {
    let settings = parse("batchSize: 0\nminWorkers: 0\nmaxWorkers: 0\nmaxBatchDelay: 0\n").unwrap().settings;
    assert_eq!(settings.batch_size, Some(1));
    assert_eq!(settings.max_batch_delay, None);
    assert_eq!(settings.workers(), None);
    assert_eq!(parse("minWorkers: 2").unwrap().settings.workers(), None);
}

#[test]
fn what_makes_a_model_fast_is_read_or_told() {
    let settings = parse("targetLatencyMs: 50\noptimization: channelsLast\npreprocessWorkers: 0\n").unwrap().settings;
    assert_eq!(settings.target_latency, Some(Duration::from_millis(50)));
    assert_eq!((settings.optimization, settings.preprocess_workers), (Some("channelsLast"), Some(0)));
    for (text, told) in [
        ("optimization: fast", "optimization: \"fast\" is ignored; it must be one of auto, asLoaded, frozen"),
        ("optimization: 1", "optimization: 1 is ignored; it must be one of auto"),
        ("targetLatencyMs: soon", "targetLatencyMs: \"soon\" is ignored; it must be a whole number from 0 on"),
        ("preprocessWorkers: -1", "preprocessWorkers: -1 is ignored; it must be a whole number from 0 on"),
        ("target_latency_ms: 5", "target_latency_ms has no effect on the server: targetLatencyMs is its key for that"),
    ] {
        let config = parse(text).unwrap();
        assert_eq!(config.settings, ModelSettings::default(), "{text}");
        assert!(config.warnings.iter().any(|warning| warning.contains(told)), "{text}: {:?}", config.warnings);
    }
}

#[test]
fn nothing_is_an_empty_config() {
    for text in ["", "\n", "# only a comment\n", "---\n", "null\n", "{}"] {
        let config = parse(text).unwrap();
        assert_eq!(config.value, serde_json::json!({}), "{text:?}");
        assert_eq!(config.settings, ModelSettings::default());
    }
}

#[test]
fn later_keys_win_and_merges_work() {
    let config = parse("a: 1\na: 2\nbase: &b {x: 1}\nchild:\n  <<: *b\n  y: 2\n").unwrap();
    assert_eq!(config.value["a"], 2);
    assert_eq!(config.value["child"], serde_json::json!({"x": 1, "y": 2}));
}

#[test]
fn broken_yaml_is_placed() {
    let message = parse("batchSize: 1\nhandler: {a: [1, 2}\n").unwrap_err();
    assert!(message.contains("model-config.yaml, line 2, column"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    let message = parse("- 1\n- 2\n").unwrap_err();
    assert!(message.contains("'key: value' lines"), "{message}");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        let row = vec![alias; 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{row}]\n"));
    }
    let message = parse(&text).unwrap_err();
    assert!(message.contains("model-config.yaml"), "{message}");
    let deep = "[".repeat(100_000);
    assert!(parse(&format!("a: {deep}")).is_err());
}
