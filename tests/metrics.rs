//! What is measured, as it is fetched from the server or written to its files.

use std::collections::BTreeMap;
use std::fs;

use crate::support::Answer;
use crate::support::Archive;
use crate::support::Gate;
use crate::support::Sent;
use crate::support::Server;
use crate::support::Setup;
use crate::support::eventually;
use crate::support::fixture;
use crate::support::says;

/// A line of the exposition: a name, labels and a value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    /// In Prometheus's text format, read without mercy.
    fn read(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        let labels = labels.split_terminator(',').map(|pair| {
            let (label, value) = pair.split_once('=')?;
            Some((label.to_owned(), value.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
        });
        let value = value.parse().ok()?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
        is_name.then_some(())?;
        Some(Self { name: name.to_owned(), labels: labels.collect::<Option<_>>()?, value })
    }

    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All samples of an answer; fails where a line is neither one nor a comment.
fn samples(answer: &Answer) -> Vec<Sample> {
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.ok();
    let lines = text.lines().filter(|line| !line.starts_with("# HELP ") && !line.starts_with("# TYPE "));
    lines.map(|line| Sample::read(line).unwrap_or_else(|| panic!("no sample: {line:?}"))).collect()
}

/// The value of the only series of that name which has these labels, among others.
#[track_caller]
fn value(answer: &Answer, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = samples(answer);
    let ours =
        |sample: &&Sample| sample.name == name && labels.iter().all(|(label, value)| sample.label(label) == *value);
    let found: Vec<_> = all.iter().filter(ours).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} in {}", answer.text());
    found[0].value
}

fn measuring(setup: Setup) -> Server {
    let archive = Archive::new("measures", "measures").config("minWorkers: 1\nmaxWorkers: 1\n");
    setup.plugin(&fixture("measures")).model(&archive).start()
}

#[test]
fn torchserve_s_metrics_have_its_names_types_and_labels() {
    let server = measuring(Setup::with_echo());
    server.predict("measures", "abC").ok();
    server.predict("measures/1.0", "abc").ok();
    let metrics = eventually("a look at the processor", || {
        let metrics = server.metrics();
        samples(&metrics).iter().any(|sample| sample.name == "CPUUtilization").then_some(metrics)
    });
    let text = metrics.ok();
    let samples = samples(&metrics);
    let (host, model) = (&["Hostname", "Level"][..], &["Hostname", "Level", "ModelName"][..]);
    let request = &["hostname", "model_name", "model_version"][..];
    for (name, kind, labels) in [
        ("Requests2XX", "counter", host),
        ("Requests4XX", "counter", host),
        ("Requests5XX", "counter", host),
        ("ts_inference_requests_total", "counter", request),
        ("ts_inference_latency_microseconds", "counter", request),
        ("ts_queue_latency_microseconds", "counter", request),
        ("QueueTime", "gauge", host),
        ("WorkerThreadTime", "gauge", host),
        ("WorkerLoadTime", "gauge", &["Hostname", "Level", "WorkerName"]),
        ("CPUUtilization", "gauge", host),
        ("MemoryUtilization", "gauge", host),
        ("DiskUtilization", "gauge", host),
        ("MemoryUsed", "gauge", host),
        ("MemoryAvailable", "gauge", host),
        ("DiskUsage", "gauge", host),
        ("DiskAvailable", "gauge", host),
        ("HandlerTime", "gauge", model),
        ("PredictionTime", "gauge", model),
    ] {
        says(&text, &[&format!("# TYPE {name} {kind}\n")]);
        let ours: Vec<_> = samples.iter().filter(|sample| sample.name == name).collect();
        assert!(!ours.is_empty(), "no {name} in {text}");
        for sample in ours {
            assert_eq!(sample.labels.keys().map(String::as_str).collect::<Vec<_>>(), labels, "{name}");
            assert!(sample.value >= 0.0, "{sample:?}");
            let level = sample.labels.get("Level").map(String::as_str);
            assert!(level.is_none_or(|level| level == if labels == model { "Model" } else { "Host" }), "{sample:?}");
        }
    }
    for (version, count) in [("default", 1.0), ("1.0", 1.0)] {
        let labels = [("model_name", "measures"), ("model_version", version)];
        assert_eq!(value(&metrics, "ts_inference_requests_total", &labels), count);
        assert!(value(&metrics, "ts_inference_latency_microseconds", &labels) > 0.0);
        let queued = value(&metrics, "ts_queue_latency_microseconds", &labels);
        assert!(queued <= value(&metrics, "ts_inference_latency_microseconds", &labels));
    }
    value(&metrics, "WorkerLoadTime", &[("WorkerName", "W-9000-measures_1.0")]);
    assert!(value(&metrics, "MemoryUsed", &[]) > 1.0);
}

#[test]
fn every_response_of_every_port_is_counted_by_its_class() {
    let server = Setup::with_echo().start();
    let before = server.metrics();
    let classes = |answer: &Answer| ["2XX", "4XX", "5XX"].map(|class| value(answer, &format!("Requests{class}"), &[]));
    server.predict("echo", "x").ok();
    server.inference("/ping", &Sent::get()).ok();
    server.management("/models", &Sent::get()).ok();
    assert_eq!(server.predict("nobody", "x").status, 404);
    assert_eq!(server.management("/models/nobody", &Sent::get()).status, 404);
    let after = server.metrics();
    // The three, and the first look at the metrics.
    let grown: Vec<f64> = classes(&after).iter().zip(classes(&before)).map(|(after, before)| after - before).collect();
    assert_eq!(grown, [4.0, 2.0, 0.0]);
}

#[test]
fn any_method_and_path_below_metrics_answers_and_names_filter() {
    let server = Setup::with_echo().start();
    server.predict("echo", "x").ok();
    for (path, method) in [("/metrics", "GET"), ("/metrics", "POST"), ("/metrics/", "PUT"), ("/metrics/a/b", "DELETE")]
    {
        let answer = server.metrics_api(path, &Sent::get().method(method));
        assert!(samples(&answer).iter().any(|sample| sample.name == "Requests2XX"), "{method} {path}");
    }
    let query = "/metrics?name[]=Requests2XX&name%5B%5D=ts_inference_requests_total&name[]=nothing";
    let answer = server.metrics_api(query, &Sent::get());
    let names: Vec<_> = samples(&answer).into_iter().map(|sample| sample.name).collect();
    assert_eq!(names, ["Requests2XX", "ts_inference_requests_total"]);
    server.metrics_api("/metric", &Sent::get()).error(404, "ResourceNotFoundException");
}

#[test]
fn what_a_handler_records_and_its_steps_are_told() {
    let server = measuring(Setup::new());
    server.predict("measures", "abC").ok();
    server.predict("measures", "abcde").ok();
    let metrics = server.metrics();
    let model = [("ModelName", "measures"), ("Level", "Model"), ("model_version", "1.0")];
    let with = |label| [&model[..], &[label]].concat();
    assert_eq!(value(&metrics, "Letters", &with(("case", "lower"))), 7.0);
    assert_eq!(value(&metrics, "Letters", &with(("case", "upper"))), 1.0);
    assert_eq!(value(&metrics, "LastLength", &model), 5.0);
    assert_eq!(value(&metrics, "Lengths_sum", &model), 8.0);
    let ours = [("model_name", "measures"), ("model_version", "1.0")];
    for name in ["sconce_request_seconds_count", "sconce_queue_seconds_count", "sconce_batch_size_sum"] {
        assert_eq!(value(&metrics, name, &ours), 2.0, "{name}");
    }
    for stage in ["preprocess", "inference", "postprocess"] {
        let labels = [&ours[..], &[("stage", stage)]].concat();
        assert_eq!(value(&metrics, "sconce_stage_seconds_count", &labels), 2.0, "{stage}");
        assert!(!metrics.text().contains(&format!("ts_handler_{stage}")), "only who asks for a profile has it");
    }
    assert!(value(&metrics, "sconce_resident_memory_bytes", &[]) > 1e6);
    assert!(samples(&metrics).iter().all(|sample| sample.name != "sconce_model_bytes"), "there are no weights");
}

#[test]
fn a_profile_has_torchserve_s_names() {
    let archive = Archive::new("measures", "measures").config("handler:\n  profile: true\n");
    let server = Setup::new().plugin(&fixture("measures")).model(&archive).start();
    server.predict("measures", "a").ok();
    let metrics = server.metrics();
    for stage in ["preprocess", "inference", "postprocess"] {
        let labels = [("ModelName", "measures"), ("Level", "Model")];
        assert!(value(&metrics, &format!("ts_handler_{stage}"), &labels) >= 0.0);
    }
}

const LIST: &str = r#"
dimensions:
  - &model_name "ModelName"
model_metrics:
  counter:
    - name: Letters
      unit: letters
      dimensions: [*model_name, "case"]
"#;

#[test]
fn an_operator_s_list_decides_what_handlers_record() {
    for (auto_detect, has_unlisted) in [("false", false), ("true", true)] {
        let setup = Setup::new();
        let list = setup.file("metrics.yaml", LIST);
        let setup = setup.property("metrics_config", &list).property("model_metrics_auto_detect", auto_detect);
        let server = measuring(setup);
        server.predict("measures", "abC").ok();
        let metrics = server.metrics();
        assert_eq!(value(&metrics, "Letters", &[("ModelName", "measures"), ("case", "lower")]), 2.0);
        let samples = samples(&metrics);
        let listed = samples.iter().find(|sample| sample.name == "Letters").unwrap();
        assert_eq!(listed.labels.keys().collect::<Vec<_>>(), ["Hostname", "ModelName", "case"]);
        says(&metrics.ok(), &["# HELP Letters Torchserve prometheus counter metric with unit: letters\n"]);
        for name in ["LastLength", "HandlerTime"] {
            assert_eq!(samples.iter().any(|sample| sample.name == name), has_unlisted, "{name}, {auto_detect}");
        }
        // The server's own are listed nowhere, and stay.
        assert_eq!(value(&metrics, "ts_inference_requests_total", &[]), 1.0);
    }
}

#[test]
fn a_list_that_cant_be_read_ends_the_start() {
    for (list, expected) in [
        (
            "model_metrics: {gauge: [{name: A, dimensions: []}]}",
            "model_metrics, gauge, metric \"A\": the key unit is missing",
        ),
        ("model_metrics: [", "line 1"),
    ] {
        let setup = Setup::with_echo();
        let path = setup.file("metrics.yaml", list);
        let output = setup.property("metrics_config", &path).run_to_end();
        assert_eq!(output.status.code(), Some(1));
        says(&String::from_utf8_lossy(&output.stderr), &[&path, expected]);
    }
    let output = Setup::with_echo().property("metrics_config", "/no/such/file").run_to_end();
    says(&String::from_utf8_lossy(&output.stderr), &["can't read /no/such/file, which metrics_config names"]);
    let output = Setup::with_echo().property("metrics_mode", "loud").run_to_end();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    says(&text, &["Invalid configuration", "metrics_mode = \"loud\" is not prometheus, log or legacy"]);
}

#[test]
fn the_log_mode_writes_lines_and_exposes_nothing() {
    let server = measuring(Setup::new().property("metrics_mode", "log"));
    let id = {
        let answer = server.predict("measures", "abC");
        answer.ok();
        answer.header("x-request-id").unwrap().to_owned()
    };
    let metrics = server.metrics();
    assert_eq!((metrics.ok().as_str(), samples(&metrics).len()), ("", 0));
    let read = |name: &str| fs::read_to_string(server.current_dir().join("logs").join(name)).unwrap();
    let host = read("ts_metrics.log");
    for line in [
        " - Requests2XX.Count:1.0|#Level:Host|#hostname:",
        " - ts_inference_requests_total.Count:1.0|#model_name:measures,model_version:default|#hostname:",
        " - ts_inference_latency_microseconds.Microseconds:",
        " - QueueTime.Milliseconds:",
        " - WorkerLoadTime.Milliseconds:",
        "|#WorkerName:W-9000-measures_1.0,Level:Host|#hostname:",
        " - MemoryUsed.Megabytes:",
    ] {
        says(&host, &[line]);
    }
    let model = read("model_metrics.log");
    let line =
        |start: &str| model.lines().find(|line| line.contains(start)).unwrap_or_else(|| panic!("{start}: {model}"));
    assert!(line(" - HandlerTime.ms:").contains("|#ModelName:measures,Level:Model|#hostname:"), "{model}");
    assert!(line(" - PredictionTime.ms:").contains(&format!(",requestID:{id},timestamp:")), "{model}");
    line(" - Letters.Count:2.0|#case:lower,ModelName:measures,Level:Model,model_version:1.0|#hostname:");
    // The same lines are in the log, under TorchServe's targets.
    server.logged(&["INFO ts_metrics: ", "Requests2XX.Count:1.0|#Level:Host|#hostname:"]);
    server.logged(&["INFO model_metrics: ", "HandlerTime.ms:"]);
}

#[test]
fn the_legacy_mode_exposes_three_counters() {
    let server = measuring(Setup::new().property("metrics_mode", "legacy").property("disable_system_metrics", "true"));
    server.predict("measures", "a").ok();
    let names: Vec<_> = samples(&server.metrics()).into_iter().map(|sample| sample.name).collect();
    assert_eq!(
        names,
        ["ts_inference_latency_microseconds", "ts_inference_requests_total", "ts_queue_latency_microseconds"]
    );
    let host = fs::read_to_string(server.current_dir().join("logs/ts_metrics.log")).unwrap();
    says(&host, &["QueueTime.Milliseconds:"]);
    assert!(!host.contains("ts_inference_requests_total") && !host.contains("MemoryUsed"), "{host}");
}

#[test]
fn the_machine_is_left_alone_where_the_operator_says_so() {
    let setup =
        Setup::with_echo().property("disable_system_metrics", "true").property("system_metrics_cmd", "collect.py");
    let server = setup.start();
    server.logged(&["WARN", "system_metrics_cmd has no effect: the server looks at the machine itself"]);
    assert!(samples(&server.metrics()).iter().all(|sample| sample.name != "MemoryUsed"));
}

#[test]
fn what_waits_and_what_is_refused_is_told() {
    let archive = Archive::new("waits", "waits").config("jobQueueSize: 1\nmaxBatchDelay: 0\n");
    let server = Setup::new().plugin(&fixture("waits")).model(&archive).start();
    let (first, second) = (Gate::new(), Gate::new());
    std::thread::scope(|scope| {
        let _open = (first.opener(), second.opener());
        scope.spawn(|| server.predict("waits", first.body()));
        first.wait_for_a_call();
        scope.spawn(|| server.predict("waits", second.body()));
        let labels = [("model_name", "waits"), ("model_version", "1.0")];
        eventually("the queue to be full", || {
            (value(&server.metrics(), "sconce_queue_depth", &labels) == 1.0).then_some(())
        });
        assert_eq!(server.predict("waits", "no place").status, 503);
        let metrics = server.metrics();
        let failed =
            |cause| value(&metrics, "sconce_requests_failed_total", &[("cause", cause), ("model_name", "waits")]);
        assert_eq!([failed("queue_full"), failed("expired"), failed("handler")], [1.0, 0.0, 0.0]);
        assert!(value(&metrics, "Requests5XX", &[]) >= 1.0);
    });
}
