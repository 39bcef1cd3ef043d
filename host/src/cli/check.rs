//! `sconce check`: whether a server would take a plugin, and why not.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use handler_sdk::ContextInfo;
use handler_sdk::Device;
use handler_sdk::ModelKind;
use handler_sdk::abi::NO_MODEL;
use serde_json::Value;

use crate::archive::Package;
use crate::model::Accelerators;
use crate::model::ModelOptions;
use crate::model::Runtime;
use crate::model::is_compiled;
use crate::model::load;
use crate::plugin::Canary;
use crate::plugin::CanaryRequest;
use crate::plugin::HostBuild;
use crate::plugin::Keeper;
use crate::plugin::LibraryFile;
use crate::plugin::LibraryStore;
use crate::plugin::PluginError;
use crate::plugin::StagedLibrary;
use crate::plugin::judge;
use crate::telemetry;

/// Tells whether a server would take a plugin: its note, its layout, each handler's initialize and self-test.
///
/// The library is opened in a process of its own, so that nothing it does can harm this one.
/// The last line is the verdict; the exit status is 0 where it is OK and 1 where it isn't.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The library, as target/release/libecho.so.
    #[arg(value_name = "FILE.so")]
    library: PathBuf,

    /// An archive whose files and model the handlers are given; without one they get an empty archive.
    #[arg(long, value_name = "ARCHIVE")]
    archive: Option<PathBuf>,

    /// Check only this handler of the library.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,

    /// How long one handler's trial may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// How far a handler's trial went.
enum Trial {
    Passed,
    /// All that needs no model.
    NeedsModel,
}

pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let _ = telemetry::start("info");
    match check(args) {
        Ok(limits) if limits.is_empty() => {
            println!("OK: a server takes this plugin");
            Ok(ExitCode::SUCCESS)
        }
        Ok(handlers) => {
            println!(
                "OK: a server takes this plugin; initialize and self_test of {} need a model: give one with --archive FILE",
                handlers.join(", ")
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("REFUSED: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Goes through the checks, a line each; returns the handlers that need a model to be checked in full.
fn check(args: &CheckArgs) -> anyhow::Result<Vec<String>> {
    let work_dir = tempfile::tempdir()?;
    let libraries = LibraryStore::new(work_dir.path())?;
    let staged = libraries.stage(&args.library)?;
    let file = LibraryFile::read_staged(&staged)?;
    describe(&file);
    judge(&file, &HostBuild::current()).map_err(|refusal| PluginError::Refused { path: file.path.clone(), refusal })?;
    println!("{:<12}ok: fits this host", "note");
    for warning in file.warnings() {
        println!("{:<12}it {warning}", "warning");
    }
    let handlers = match &args.handler {
        Some(name) => vec![file.handler(name)?.to_owned()],
        None => file.handler_names(),
    };
    anyhow::ensure!(!handlers.is_empty(), "{} exports no handler", file.path.display());
    let package = args.archive.as_deref().map(|path| Package::open(path, work_dir.path())).transpose()?;
    let request = request(package.as_ref(), work_dir.path())?;
    let canary = Canary::new(PathBuf::from("/proc/self/exe"), Keeper::fork().ok());
    let mut need_model = Vec::new();
    for handler in handlers {
        let request = CanaryRequest { handler: handler.clone(), ..request.clone() };
        match try_out(&canary, &staged, &request, Duration::from_secs(args.timeout), package.is_some())? {
            Trial::Passed => println!("{:<12}ok: layout, initialize and self_test of {handler}", "trial"),
            Trial::NeedsModel => {
                println!("{:<12}ok: layout; {handler} asks for a model", "trial");
                need_model.push(handler);
            }
        }
    }
    Ok(need_model)
}

fn describe(file: &LibraryFile) {
    let note = &file.note;
    let handlers: Vec<_> =
        note.handlers.iter().map(|handler| format!("{} ({})", handler.name, handler.type_name)).collect();
    for (name, value) in [
        ("library", file.path.display().to_string()),
        ("sdk", format!("handler-sdk {}, ABI {}.{}", note.sdk, note.abi.0, note.abi.1)),
        ("compiler", format!("{}, panic = {:?}", note.rustc, note.panic)),
        ("target", format!("{} ({})", note.target, note.target_features.join(", "))),
        ("libtorch", note.libtorch.clone().unwrap_or_else(|| "none".to_owned())),
        ("handlers", handlers.join(", ")),
    ] {
        println!("{name:<12}{value}");
    }
}

fn try_out(
    canary: &Canary,
    staged: &StagedLibrary,
    request: &CanaryRequest,
    limit: Duration,
    has_archive: bool,
) -> anyhow::Result<Trial> {
    match canary.try_library(staged, request, limit) {
        Ok(()) => Ok(Trial::Passed),
        Err(PluginError::TrialFailed { reason, .. }) if !has_archive && reason.contains(NO_MODEL) => {
            Ok(Trial::NeedsModel)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a server would tell the handlers of that archive, or of an empty one.
fn request(package: Option<&Package>, empty: &Path) -> anyhow::Result<CanaryRequest> {
    let operators = package.map(Package::torch_libraries).transpose()?.unwrap_or_default();
    let weights = package.map(Package::serialized_file).transpose()?.flatten();
    let model_kind = weights.as_deref().map(kind).transpose()?;
    let name = package.map(Package::manifest_name).transpose()?.flatten();
    Ok(CanaryRequest {
        handler: String::new(),
        context: ContextInfo {
            model_name: name.map_or_else(|| "check".to_owned(), |name| name.to_string()),
            model_version: "1.0".to_owned(),
            model_dir: package.map_or_else(|| empty.to_owned(), |package| package.root.clone()),
            device: Device::Cpu.to_string(),
            model_kind,
            properties: [("batch_size".to_owned(), "1".to_owned())].into(),
            config: package
                .and_then(|package| package.config.as_ref())
                .map_or(Value::Null, |config| config.value.clone()),
        },
        model: weights,
        package: package.map(|package| package.digest),
        operators,
    })
}

fn kind(path: &Path) -> anyhow::Result<ModelKind> {
    // The trial loads it, in a process of its own.
    if is_compiled(path, Device::Cpu)? {
        return Ok(ModelKind::AotInductor);
    }
    Runtime::start(Accelerators::None, 1)?;
    Ok(load(path, Device::Cpu, ModelOptions::default())?.kind())
}
