//! What is recorded, and what is fetched of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use handler_sdk::MetricKind;

use super::*;
use crate::config::MetricsConfig;
use crate::config::MetricsMode;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

fn model(metrics: &Metrics) -> ModelMetrics {
    metrics.for_model(&ModelName::parse("m").unwrap(), &ModelVersion::default())
}

fn handler(metrics: &Metrics) -> HandlerMetrics {
    HandlerMetrics::new(model(metrics), Profile::Off)
}

fn with_list(folder: &Path, list: &str, auto_detect: bool) -> Result<Metrics, MetricsError> {
    let definitions = folder.join("metrics.yaml");
    fs::write(&definitions, list).unwrap();
    Metrics::new(&MetricsConfig { definitions: Some(definitions), auto_detect, ..MetricsConfig::default() })
}

fn fetch(metrics: &Metrics, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    String::from_utf8(metrics.exposition(&Now::default(), &names).unwrap()).unwrap()
}

/// The value in the line that begins so and has all of these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with('{') && labels.iter().all(|label| rest.contains(label))
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

fn recorded<'a>(kind: MetricKind, name: &'a str, value: f64, labels: &'a [(&'a str, &'a str)]) -> Recorded<'a> {
    Recorded { kind, name, value, unit: "count", labels }
}

#[test]
fn what_handlers_record_is_fetched_under_their_labels() {
    let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
    let handler = handler(&metrics);
    let seven = [("digit", "7")];
    for (kind, name, value, labels) in [
        (MetricKind::Counter, "digits", 2.0, &seven[..]),
        (MetricKind::Counter, "digits", 1.0, &seven),
        (MetricKind::Gauge, "ink", 0.5, &[]),
        (MetricKind::Gauge, "ink", 0.25, &[]),
        (MetricKind::Histogram, "strokes", 3.0, &[]),
    ] {
        handler.record(&recorded(kind, name, value, labels)).unwrap();
    }
    let text = fetch(&metrics, &[]);
    let model = ["ModelName=\"m\"", "Level=\"Model\"", "model_version=\"1.0\"", "Hostname=\""];
    assert_eq!(value(&text, "digits", &[&model[..], &["digit=\"7\""]].concat()), Some(3.0), "{text}");
    assert_eq!(value(&text, "ink", &model), Some(0.25), "{text}");
    assert_eq!(value(&text, "strokes_count", &model), Some(1.0), "{text}");
    assert!(text.contains("# HELP digits Torchserve prometheus counter metric with unit: Count\n"), "{text}");

    for (kind, name, value, labels, expected) in [
        (MetricKind::Counter, "digits", -1.0, &seven[..], "a counter only grows"),
        (MetricKind::Counter, "digits", f64::NAN, &seven, "a counter only grows"),
        (MetricKind::Gauge, "digits", 1.0, &seven, "another kind of metric"),
        (MetricKind::Counter, "digits", 1.0, &[], "its label digit has no value"),
        (MetricKind::Gauge, "ink", 1.0, &seven, "it has no label digit"),
        (MetricKind::Gauge, "not a name", 1.0, &[], "can't be exposed"),
        (MetricKind::Gauge, "QueueTime", 1.0, &[], "can't be exposed"),
        (MetricKind::Gauge, "sconce_swaps_total", 1.0, &[], "are the server's own"),
    ] {
        let reason = handler.record(&recorded(kind, name, value, labels)).unwrap_err();
        assert!(reason.contains(expected), "{name}: {reason}");
    }
}

#[test]
fn an_operator_s_list_says_what_is_recorded() {
    const LIST: &str = "ts_metrics: {counter: [{name: Requests2XX, unit: Count, dimensions: [Level, Hostname]}]}
model_metrics: {counter: [{name: listed, unit: ms, dimensions: [ModelName, digit]}]}";
    let folder = tempfile::tempdir().unwrap();
    for (auto_detect, unlisted) in [(false, None), (true, Some(1.0))] {
        let metrics = with_list(folder.path(), LIST, auto_detect).unwrap();
        let handler = handler(&metrics);
        handler.record(&recorded(MetricKind::Counter, "listed", 1.0, &[("digit", "7")])).unwrap();
        handler.record(&recorded(MetricKind::Counter, "unlisted", 1.0, &[])).unwrap();
        metrics.responded(200);
        metrics.responded(404);
        let text = fetch(&metrics, &[]);
        assert_eq!(value(&text, "listed", &["ModelName=\"m\"", "digit=\"7\"", "Hostname="]), Some(1.0), "{text}");
        assert_eq!(value(&text, "listed", &["Level="]), None, "a label that isn't listed: {text}");
        assert!(text.contains("# HELP listed Torchserve prometheus counter metric with unit: ms\n"), "{text}");
        assert_eq!(value(&text, "unlisted", &[]), unlisted, "{text}");
        assert_eq!(value(&text, "Requests2XX", &[]), Some(1.0), "{text}");
        assert!(!text.contains("Requests4XX") && text.contains("sconce_resident_memory_bytes "), "{text}");
    }
    let message = with_list(folder.path(), "model_metrics: {gauge: [{name: A}]}", false).unwrap_err().to_string();
    assert!(
        message.ends_with("metrics.yaml: model_metrics, gauge, metric \"A\": the key unit is missing"),
        "{message}"
    );
    let twice = "model_metrics: {gauge: [{name: QueueTime, unit: ms, dimensions: []}]}";
    let message = with_list(folder.path(), twice, false).unwrap_err().to_string();
    assert!(message.contains("\"QueueTime\" can't be exposed"), "{message}");
}

#[test]
fn requests_and_batches_are_counted() {
    let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
    let text = fetch(&metrics, &[]);
    assert!(text.contains("# TYPE ts_inference_requests_total counter\n"), "without a value: {text}");
    assert!(text.contains("# TYPE HandlerTime gauge\n") && !text.contains("GPU"), "{text}");
    assert_eq!(value(&text, "ts_inference_requests_total", &[]), None, "{text}");

    let model = model(&metrics);
    let millis = Duration::from_millis;
    model.request_accepted(AskedVersion::Default);
    model.request_accepted(AskedVersion::Named);
    model.request_accepted(AskedVersion::Named);
    model.request_answered(AskedVersion::Named, millis(30), millis(10));
    Failure::ALL.iter().enumerate().for_each(|(times, cause)| (0..times).for_each(|_| model.request_failed(*cause)));
    model.batch_taken(3);
    model.batch_computed(millis(8), millis(5), || ["a"].into_iter());
    model.worker_loaded(1, millis(7));
    for status in [200, 201, 404, 503, 302] {
        metrics.responded(status);
    }
    let stages = HandlerMetrics::new(model, Profile::On);
    stages.record(&Recorded { unit: "ms", ..recorded(MetricKind::Gauge, "ts_handler_inference", 2.0, &[]) }).unwrap();

    let text = fetch(&metrics, &[]);
    let own = ["model_name=\"m\"", "model_version=\"1.0\""];
    for (name, labels, expected) in [
        ("ts_inference_requests_total", &["model_name=\"m\"", "model_version=\"default\"", "hostname="][..], 1.0),
        ("ts_inference_requests_total", &["model_version=\"1.0\""], 2.0),
        ("ts_inference_latency_microseconds", &["model_version=\"1.0\""], 30_000.0),
        ("ts_queue_latency_microseconds", &["model_version=\"1.0\""], 10_000.0),
        ("QueueTime", &["Level=\"Host\"", "Hostname="], 10.0),
        ("WorkerThreadTime", &["Level=\"Host\""], 3.0),
        ("WorkerLoadTime", &["WorkerName=\"W-9001-m_1.0\"", "Level=\"Host\""], 7.0),
        ("HandlerTime", &["ModelName=\"m\"", "Level=\"Model\"", "Hostname="], 5.0),
        ("PredictionTime", &["ModelName=\"m\""], 8.0),
        ("Requests2XX", &["Level=\"Host\""], 2.0),
        ("Requests4XX", &["Level=\"Host\""], 1.0),
        ("Requests5XX", &["Level=\"Host\""], 2.0),
        ("ts_handler_inference", &["ModelName=\"m\"", "Level=\"Model\""], 2.0),
        ("sconce_stage_seconds_sum", &["stage=\"inference\""], 0.002),
        ("sconce_stage_seconds_count", &["stage=\"preprocess\""], 0.0),
        ("sconce_batch_size_sum", &own, 3.0),
        ("sconce_request_seconds_sum", &own, 0.03),
        ("sconce_queue_seconds_sum", &own, 0.01),
        ("sconce_requests_failed_total", &["cause=\"queue_full\""], 0.0),
        ("sconce_requests_failed_total", &["cause=\"no_ticket\""], 1.0),
        ("sconce_requests_failed_total", &["cause=\"expired\""], 3.0),
        ("sconce_requests_failed_total", &["cause=\"unregistered\""], 9.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}: {text}");
    }
    assert_eq!(value(&text, "HandlerTime", &["model_version="]), None, "{text}");
}

#[test]
fn names_choose_what_is_fetched() {
    let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
    metrics.responded(200);
    model(&metrics).batch_taken(1);
    let families = |names: &[&str]| {
        let text = fetch(&metrics, names);
        text.lines()
            .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(families(&["Requests2XX"]), ["Requests2XX"]);
    assert_eq!(families(&["Requests2XX", "sconce_batch_size_bucket"]), ["Requests2XX", "sconce_batch_size"]);
    assert_eq!(families(&["sconce_batch"]), [""; 0]);
    assert!(families(&[]).len() > 20);
}

#[test]
fn gauges_forget_what_is_gone() {
    let metrics = Metrics::new(&MetricsConfig::default()).unwrap();
    let endpoint = EndpointNow {
        name: ModelName::parse("m").unwrap(),
        version: ModelVersion::default(),
        waiting: 4,
        generations: vec![("serving", 1)],
        model_bytes: Some(1000),
    };
    let text = |endpoints| {
        let now = Now { endpoints, ..Now::default() };
        String::from_utf8(metrics.exposition(&now, &[]).unwrap()).unwrap()
    };
    let there = text(vec![endpoint]);
    assert_eq!(value(&there, "sconce_queue_depth", &["model_name=\"m\""]), Some(4.0), "{there}");
    assert_eq!(value(&there, "sconce_model_bytes", &["model_name=\"m\""]), Some(1000.0), "{there}");
    assert_eq!(value(&there, "sconce_generations", &["state=\"serving\""]), Some(1.0), "{there}");
    let gone = text(Vec::new());
    for name in ["sconce_queue_depth", "sconce_model_bytes", "sconce_generations"] {
        assert_eq!(value(&gone, name, &[]), None, "{gone}");
    }
}

#[test]
fn lines_are_written_in_place_of_what_is_fetched() {
    for (mode, is_fetched) in [(MetricsMode::Log, false), (MetricsMode::Legacy, true)] {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("logs");
        let metrics = Metrics::new(&MetricsConfig { mode, location: location.clone(), ..MetricsConfig::default() });
        let metrics = metrics.unwrap();
        let model = model(&metrics);
        metrics.responded(200);
        model.request_accepted(AskedVersion::Default);
        model.batch_computed(Duration::from_millis(2), Duration::from_millis(1), || ["a", "b"].into_iter());
        handler(&metrics).record(&recorded(MetricKind::Counter, "digits", 1.0, &[("digit", "7")])).unwrap();
        let text = fetch(&metrics, &[]);
        let fetched = value(&text, "ts_inference_requests_total", &["model_version=\"default\""]);
        assert_eq!(fetched, is_fetched.then_some(1.0), "{text}");
        assert!(!text.contains("sconce_") && !text.contains("Requests2XX"), "{text}");
        assert_eq!(text.is_empty(), !is_fetched);

        let read = |name| fs::read_to_string(location.join(name)).unwrap();
        let (host, model) = (read("ts_metrics.log"), read("model_metrics.log"));
        assert!(host.contains(" - Requests2XX.Count:1.0|#Level:Host|#hostname:"), "{host}");
        let counted = " - ts_inference_requests_total.Count:1.0|#model_name:m,model_version:default|#hostname:";
        assert_eq!(host.contains(counted), !is_fetched, "{host}");
        assert!(model.contains(" - HandlerTime.ms:1.0|#ModelName:m,Level:Model|#hostname:"), "{model}");
        assert!(model.contains(",requestID:a,b,timestamp:"), "{model}");
        assert!(
            model.contains(" - digits.Count:1.0|#digit:7,ModelName:m,Level:Model,model_version:1.0|#hostname:"),
            "{model}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = MetricsConfig { mode: MetricsMode::Log, location: file.path().to_owned(), ..MetricsConfig::default() };
    let message = Metrics::new(&config).unwrap_err().to_string();
    assert!(message.contains("set METRICS_LOCATION"), "{message}");
}
