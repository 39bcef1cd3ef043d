//! Why a handler can't be used: each text says which file, what is wrong with it, and what to do.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::canary::Step;

#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("can't {what} {path}: {cause}")]
    Io {
        what: &'static str,
        path: PathBuf,
        // No source besides: who prints the chain of errors would say it twice.
        cause: std::io::Error,
    },

    #[error(
        "libraries can't be opened below {path}: its file system is mounted noexec; name another folder with --work-dir or sconce_work_dir"
    )]
    NoExecution { path: PathBuf },

    #[error("{path} {refusal}")]
    Refused { path: PathBuf, refusal: Refusal },

    #[error("no library in {} has a handler named {name:?}: {found}", places(paths))]
    NotFound { name: String, paths: Vec<PathBuf>, found: String },

    #[error(
        "handler {name:?} is in two libraries, {} and {}: remove one of them from the plugins path",
        first.display(),
        second.display()
    )]
    Ambiguous { name: String, first: PathBuf, second: PathBuf },

    #[error("no plugins path is set, so handler {name:?} can't be looked up: start with --plugins-path FOLDER")]
    NoPluginsPath { name: String },

    #[error("{path} has no handler {name:?}; it has {}", list(found))]
    NoSuchHandler { path: PathBuf, name: String, found: Vec<String> },

    #[error("{path} can't be opened: {reason}")]
    Open { path: PathBuf, reason: String },

    #[error(
        "{path} has functions of another shape than this host's: build it against handler-sdk {sdk}{}",
        mismatch(reason)
    )]
    Layout { path: PathBuf, sdk: &'static str, reason: String },

    #[error(
        "{cause}; if it brings torchvision's own operators: a model that names no torchLibraries has made this process use its own, and the two can't be there together: name the library in that model's config, too, and start the server again"
    )]
    OperatorsTaken { path: PathBuf, cause: Box<PluginError> },

    #[error("{path} failed its trial: {step} failed: {reason}; {}", after_trial(*step, path))]
    TrialFailed { path: PathBuf, step: Step, reason: String },

    #[error(
        "{path} failed its trial: the process {end} in {step}{}; the server itself is unharmed: {}",
        last_words(output),
        after_death(*step, path, end)
    )]
    TrialDied {
        path: PathBuf,
        step: Step,
        /// As `was killed by signal 11 (segmentation fault)`.
        end: String,
        /// The last of what the process wrote to its standard output and error.
        output: String,
    },

    #[error(
        "{path} failed its trial: {step} took longer than {limit:?} and was stopped; mend the handler, or raise startupTimeout"
    )]
    TrialTimedOut { path: PathBuf, step: Step, limit: Duration },

    #[error(
        "the trial of {path} was cut short in {step}: the process that holds trials was killed; ask again, and look at what kills processes here"
    )]
    TrialLost { path: PathBuf, step: Step },

    #[error("can't try {path} in a process of its own: {reason}")]
    TrialUnavailable { path: PathBuf, reason: String },
}

/// Why a file alone shows that a library can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("is not a shared library for Linux: {reason}; build the plugin with crate-type = [\"cdylib\"]")]
    NotALibrary { reason: String },

    #[error("is a library that is damaged or cut short ({reason}): build or copy it again")]
    Damaged { reason: String },

    #[error(
        "is a shared library and not a Sconce plugin: it has no section {section}; call handler_sdk::export_handler! in it once"
    )]
    NoNote { section: &'static str },

    #[error("has a broken note: {reason}; build it with handler-sdk's export_handler!")]
    BadNote { reason: String },

    #[error(
        "lacks the symbol {symbol} that a plugin is entered by: the linker or a strip step dropped it; build it again as a cdylib, without a version script of its own"
    )]
    NoRoot { symbol: &'static str },

    #[error(
        "was built with handler-sdk {sdk} for ABI {}.{}, and this host has ABI {}.{}: {}",
        plugin.0, plugin.1, host.0, host.1, remedy(*plugin, *host)
    )]
    Abi { sdk: String, plugin: (u32, u32), host: (u32, u32) },

    #[error(
        "was built with panic = \"abort\", so that a panic in it would end the server: remove that line from the profile in its Cargo.toml"
    )]
    PanicAborts,

    #[error("was built for {plugin}, and this host is {host}: build it with --target {host}")]
    Target { plugin: String, host: &'static str },

    #[error(
        "needs the CPU feature(s) {}, which this machine lacks: build it without -C target-cpu=native, or for this machine",
        list(missing)
    )]
    CpuFeatures { missing: Vec<String> },

    #[error("was built for libtorch {plugin}, and this host has {}: {}", libtorch(host.as_deref()), match host {
        Some(host) => format!("build it against libtorch {host}"),
        None => "build the host with its feature `torch`, or the plugin without its feature `tch`".to_owned(),
    })]
    Libtorch { plugin: String, host: Option<String> },

    #[error(
        "needs {library}, a second OpenMP runtime beside libtorch's libgomp, and the two abort or hang in one process: link it without {library}"
    )]
    SecondOpenMp { library: String },

    #[error(
        "takes thread-local storage from the loader's reserve (DF_STATIC_TLS), which a few swaps would use up: build what is C or C++ in it without -ftls-model=initial-exec, jemalloc with its feature disable_initial_exec_tls"
    )]
    StaticTls,

    #[error(
        "registers operators with libtorch (TORCH_LIBRARY), which a process can do once, so that its second generation would abort the server: put the operators into a library of their own that is loaded once, as by LD_PRELOAD"
    )]
    RegistersOperators,
}

fn remedy(plugin: (u32, u32), host: (u32, u32)) -> String {
    if plugin > host {
        format!("update the host, or build the plugin with a handler-sdk of ABI {}.{} or below", host.0, host.1)
    } else {
        format!("build the plugin with a handler-sdk of ABI {}.x", host.0)
    }
}

fn libtorch(version: Option<&str>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| format!("libtorch {version}"))
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn places(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// The line of abi_stable's long report that names what doesn't fit.
fn mismatch(report: &str) -> String {
    let lines: Vec<&str> = report.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told =
        lines.iter().position(|line| line.starts_with("Error")).or(lines.iter().position(|line| line.contains("rror")));
    told.map(|at| format!(" ({})", lines[at..lines.len().min(at + 3)].join(" "))).unwrap_or_default()
}

fn after_trial(step: Step, path: &Path) -> String {
    match step {
        Step::Operators => {
            "it must be built for this libtorch, and register what no other library registers".to_owned()
        }
        Step::Model => {
            "it must be compiled for this libtorch, on a machine like this one: torch._inductor.aoti_compile_and_package".to_owned()
        }
        _ => format!("mend the handler or the archive, then try `sconce check {}`", path.display()),
    }
}

/// Code for another processor looks like any other until it runs.
fn after_death(step: Step, path: &Path, end: &str) -> String {
    if end.contains("illegal instruction") {
        return "the library, or the archive's compiled model, was made for a processor that has more instructions than this one: build it for this machine".to_owned();
    }
    after_trial(step, path)
}

fn last_words(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(" (its last words: {output})") }
}
