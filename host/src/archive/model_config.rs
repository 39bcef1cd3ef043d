//! `model-config.yaml`: how one model wants to be served.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use crate::archive::error::ArchiveError;
use crate::archive::signature::Declared;

/// A model's config file: the whole of it for the handler, the known keys for the server.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Always an object; what a handler sees.
    pub value: Value,
    pub settings: ModelSettings,
    /// The tensors that the model takes and gives.
    pub declared: Declared,
    /// One sentence for each known key whose value was ignored, and why.
    pub warnings: Vec<String>,
}

/// The keys that the server itself honours; `None` where the file says nothing useful.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelSettings {
    pub min_workers: Option<usize>,
    pub max_workers: Option<usize>,
    pub batch_size: Option<usize>,
    pub max_batch_delay: Option<Duration>,
    pub response_timeout: Option<Duration>,
    pub startup_timeout: Option<Duration>,
    pub device_type: Option<DeviceType>,
    pub device_ids: Option<Vec<u32>>,
    pub job_queue_size: Option<usize>,
    /// Whether a request is taken in only for a worker that is idle.
    pub use_job_ticket: bool,
    /// After this time in the queue a job is dropped: its client has gone.
    pub client_timeout: Option<Duration>,
    /// How long a model whose workers die is started again.
    pub max_retry_timeout: Option<Duration>,
    /// Libraries of operators that the model calls, as they are written.
    pub torch_libraries: Vec<String>,
    /// How long an answer should take at most; batches are kept small enough for it.
    pub target_latency: Option<Duration>,
    /// One of [`OPTIMIZATIONS`]: the form that the model is to run in.
    pub optimization: Option<&'static str>,
    /// Threads that prepare requests beside the workers.
    pub preprocess_workers: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceType {
    Cpu,
    Gpu,
}

/// What `optimization` may be.
pub const OPTIMIZATIONS: &[&str] = &["auto", "asLoaded", "frozen", "optimized", "fused", "channelsLast"];

/// Larger than any config; a file beyond it is something else.
const LARGEST: u64 = 4 << 20;

/// Keys of TorchServe that change how a model is served there and not here, each with the reason.
const NOT_HONOURED: &[(&str, &str)] = &[
    ("parallelType", SPREAD),
    ("parallelLevel", SPREAD),
    ("torchrun", SPREAD),
    ("continuousBatching", "batches that change while they are worked on are not supported yet"),
    ("sequenceBatching", SEQUENCES),
    ("sequenceMaxIdleMSec", SEQUENCES),
    ("sequenceTimeoutMSec", SEQUENCES),
    ("maxSequenceJobQueueSize", SEQUENCES),
    ("maxNumSequence", SEQUENCES),
    ("asyncCommunication", PYTHON),
    ("useVenv", PYTHON),
    ("micro_batching", PYTHON),
    ("pippy", PYTHON),
    ("deepspeed", PYTHON),
    ("pt2", COMPILED),
];

const SPREAD: &str = "a model lies on one device; models spread over several are not supported yet";
const SEQUENCES: &str = "batching by sequence is not supported yet";
const COMPILED: &str = "it is for PyTorch's compiler in Python; a model that is compiled ahead is served as the .pt2 of torch._inductor.aoti_compile_and_package";
const PYTHON: &str = "it is for TorchServe's Python workers; only the handler itself may read it here";

// === impl ModelConfig ===

impl ModelConfig {
    /// Reads a config file; one that is empty is an empty config.
    pub fn read(file: &Path) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Io { doing: "read", path: file.to_owned(), cause: source };
        if fs::metadata(file).map_err(failed)?.len() > LARGEST {
            return Err(bad(file, format!("it is larger than {LARGEST} bytes")));
        }
        let bytes = fs::read(file).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| bad(file, "it is not UTF-8".to_owned()))?;
        Self::parse(&text, file)
    }

    /// Reads a config's text; `file` is only for the message.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ArchiveError> {
        let options = serde_saphyr::options! {
            // As TorchServe's two readers have it.
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
            // A config has few aliases; a "billion laughs" has many. The crate's own budget
            // stops at 1,000,000 replayed events, which as JSON is some 100 MB.
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
            with_snippet: false,
        };
        let value: Option<Value> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let location = error.location();
            let line = location.map(|l| l.line());
            let column = location.map(|l| l.column());
            let said = match (line, column) {
                (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
                _ => String::new(),
            };
            let detail = error.to_string();
            ArchiveError::BadModelConfig {
                file: file.to_owned(),
                line,
                column,
                detail: detail.strip_suffix(&said).unwrap_or(&detail).to_owned(),
            }
        })?;
        match value {
            None | Some(Value::Null) => Ok(Self::from_keys(Map::new())),
            Some(Value::Object(keys)) => Ok(Self::from_keys(keys)),
            Some(_) => Err(bad(file, "it must be 'key: value' lines".to_owned())),
        }
    }

    fn from_keys(keys: Map<String, Value>) -> Self {
        let mut reader = Reader { keys: &keys, ours: Vec::new(), warnings: Vec::new() };
        let settings = ModelSettings {
            min_workers: reader.count("minWorkers").map(|n| n.max(1)),
            max_workers: reader.count("maxWorkers").filter(|n| *n > 0),
            batch_size: reader.count("batchSize").map(|n| n.max(1)),
            // 0 counts as not given, as in TorchServe.
            max_batch_delay: reader.milliseconds("maxBatchDelay"),
            response_timeout: reader.seconds("responseTimeout"),
            startup_timeout: reader.seconds("startupTimeout"),
            device_type: reader.device_type("deviceType"),
            device_ids: reader.device_ids("deviceIds"),
            job_queue_size: reader.count("jobQueueSize").filter(|n| *n > 0),
            use_job_ticket: reader.switch("useJobTicket").unwrap_or(false),
            client_timeout: reader.milliseconds("clientTimeoutInMills"),
            max_retry_timeout: reader.seconds("maxRetryTimeoutInSec"),
            torch_libraries: reader.names("torchLibraries"),
            target_latency: reader.milliseconds("targetLatencyMs"),
            optimization: reader.word("optimization", OPTIMIZATIONS),
            preprocess_workers: reader.count("preprocessWorkers"),
        };
        reader.not_honoured();
        reader.half_a_range(&settings);
        reader.nearly_ours();
        let mut warnings = reader.warnings;
        let declared = Declared::read(&keys, &mut warnings);
        Self { value: Value::Object(keys), settings, declared, warnings }
    }
}

// === impl ModelSettings ===

impl ModelSettings {
    /// The least and the most workers, which count only together, as in TorchServe.
    pub fn workers(&self) -> Option<(usize, usize)> {
        match (self.min_workers, self.max_workers) {
            (Some(min), Some(max)) if min > 0 && max >= min => Some((min, max)),
            _ => None,
        }
    }
}

/// Reads known keys; what has the wrong type is told and left out.
struct Reader<'a> {
    keys: &'a Map<String, Value>,
    /// The keys that were looked for: the server's own.
    ours: Vec<&'static str>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.ours.push(key);
        self.keys.get(key)
    }

    fn count(&mut self, key: &'static str) -> Option<usize> {
        let value = self.value(key)?;
        let count = value.as_u64().filter(|n| *n <= i32::MAX as u64);
        if count.is_none() && !value.is_null() {
            self.ignored(key, value, "a whole number from 0 on");
        }
        count.and_then(|n| usize::try_from(n).ok())
    }

    fn seconds(&mut self, key: &'static str) -> Option<Duration> {
        let seconds = self.count(key).filter(|n| *n > 0)?;
        Some(Duration::from_secs(seconds as u64))
    }

    fn milliseconds(&mut self, key: &'static str) -> Option<Duration> {
        let milliseconds = self.count(key).filter(|n| *n > 0)?;
        Some(Duration::from_millis(milliseconds as u64))
    }

    fn word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.value(key)?;
        let word = words.iter().find(|word| value == *word).copied();
        if word.is_none() && !value.is_null() {
            self.ignored(key, value, &format!("one of {}", words.join(", ")));
        }
        word
    }

    fn switch(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        if !value.is_boolean() {
            self.ignored(key, value, "true or false");
        }
        value.as_bool()
    }

    fn device_type(&mut self, key: &'static str) -> Option<DeviceType> {
        let value = self.value(key)?;
        match value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("cpu") => Some(DeviceType::Cpu),
            Some("gpu" | "cuda") => Some(DeviceType::Gpu),
            _ => {
                self.ignored(key, value, "cpu or gpu");
                None
            }
        }
    }

    fn device_ids(&mut self, key: &'static str) -> Option<Vec<u32>> {
        let value = self.value(key)?;
        let ids = value.as_array().and_then(|ids| {
            ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect::<Option<Vec<u32>>>()
        });
        if ids.is_none() {
            self.ignored(key, value, "a list of whole numbers, as [0, 1]");
        }
        ids.filter(|ids| !ids.is_empty())
    }

    fn names(&mut self, key: &'static str) -> Vec<String> {
        let name = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        let names = match self.value(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(names)) => names.iter().map(name).collect::<Option<Vec<_>>>(),
            Some(one) => name(one).map(|name| vec![name]),
        };
        if let (None, Some(value)) = (&names, self.keys.get(key)) {
            self.ignored(key, value, "a list of files, as [liboperators.so]");
        }
        names.unwrap_or_default()
    }

    fn ignored(&mut self, key: &str, value: &Value, allowed: &str) {
        self.warnings.push(format!("{key}: {value} is ignored; it must be {allowed}"));
    }

    fn not_honoured(&mut self) {
        for (key, why) in NOT_HONOURED {
            let off = |v: &Value| v.is_null() || v == &Value::Bool(false) || v == &Value::from(0) || v == "";
            if self.keys.get(*key).is_some_and(|value| !off(value)) {
                self.warnings.push(format!("{key} has no effect: {why}"));
            }
        }
    }

    /// As in TorchServe, the two count only together.
    fn half_a_range(&mut self, settings: &ModelSettings) {
        if settings.min_workers.or(settings.max_workers).is_some() && settings.workers().is_none() {
            self.warnings.push(
                "minWorkers and maxWorkers have no effect: both must be given, and maxWorkers be at least minWorkers"
                    .to_owned(),
            );
        }
    }

    /// Other keys are the handler's own; one that differs from ours only in its letters' case or dashes is a slip.
    fn nearly_ours(&mut self) {
        let plain = |key: &str| key.replace(['_', '-'], "").to_ascii_lowercase();
        for key in self.keys.keys().filter(|key| !self.ours.contains(&key.as_str())) {
            if let Some(meant) = self.ours.iter().find(|known| plain(known) == plain(key)) {
                self.warnings.push(format!("{key} has no effect on the server: {meant} is its key for that"));
            }
        }
    }
}

fn bad(file: &Path, detail: String) -> ArchiveError {
    ArchiveError::BadModelConfig { file: file.to_owned(), line: None, column: None, detail }
}

#[cfg(test)]
mod tests;
