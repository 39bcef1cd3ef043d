//! The child's side of a canary: the whole trial, in a process that may die of it.

use std::io::Write;
use std::sync::Arc;
use std::sync::OnceLock;

use handler_sdk::ContextInfo;
use handler_sdk::Device;
use handler_sdk::abi::instance::CallError;

use super::CanaryRequest;
use super::Library;
use super::PluginError;
use super::Services;
use super::Step;
use super::canary::MARK;
use super::canary::Orders;
use super::canary::Report;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::Metrics;
use crate::model::Accelerators;
use crate::model::Runtime;
use crate::model::load as load_model;

/// What the program does when it was started with the command `canary`: the whole trial.
pub fn run_child() -> anyhow::Result<()> {
    // The child must not outlive the server, and its crash needs no core file.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let no_core = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, no_core)?;
    let orders: Orders = serde_json::from_reader(std::io::stdin().lock())?;
    Runtime::start(Accelerators::None, 1)?;
    // A thread of its own, as in the server.
    let trial = std::thread::Builder::new()
        .name("canary".to_owned())
        .spawn(move || try_out(&orders))?;
    match trial.join() {
        Ok(result) => report(&result?),
        Err(_) => anyhow::bail!("the trial itself panicked"),
    }
}

fn report(report: &Report) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{MARK}{}", serde_json::to_string(report)?)?;
    Ok(output.flush()?)
}

fn try_out(orders: &Orders) -> anyhow::Result<Report> {
    let failed = |step, error| match error {
        CallError::Failed(error) | CallError::Panicked(error) => Report::Failed {
            step,
            reason: error.log_text().to_owned(),
        },
    };
    report(&Report::Begin(Step::Open))?;
    let library = match Library::open_for_trial(&orders.library) {
        Ok(library) => Arc::new(library),
        Err(PluginError::Layout { reason, .. }) => return Ok(Report::Layout { reason }),
        Err(PluginError::Open { reason, .. }) => {
            return Ok(Report::Failed {
                step: Step::Open,
                reason,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let services = child_services(&orders.request)?;
    let context = ContextInfo {
        device: Device::Cpu.to_string(),
        ..orders.request.context.clone()
    };
    report(&Report::Begin(Step::Create))?;
    let mut instance = match library.instantiate(&orders.request.handler, &services) {
        Ok(instance) => instance,
        Err(PluginError::TrialFailed { step, reason, .. }) => return Ok(Report::Failed { step, reason }),
        Err(error) => return Err(error.into()),
    };
    report(&Report::Begin(Step::Initialize))?;
    if let Err(error) = instance.initialize(&context, &services) {
        return Ok(failed(Step::Initialize, error));
    }
    report(&Report::Begin(Step::SelfTest))?;
    if let Err(error) = instance.self_test(&services) {
        return Ok(failed(Step::SelfTest, error));
    }
    Ok(Report::Passed)
}

/// The model is read only if the handler asks, and on the CPU: most handlers don't, and a second copy on a GPU may not fit.
fn child_services(request: &CanaryRequest) -> anyhow::Result<Services> {
    let name = ModelName::parse(&request.context.model_name)?;
    let version = ModelVersion::new(request.context.model_version.clone());
    let path = request.model.as_ref().map(|model| model.path.clone());
    let loaded = OnceLock::new();
    let model = move || {
        let load = || {
            let path = path.clone().ok_or("the archive holds no model")?;
            load_model(&path, Device::Cpu).map_err(|error| error.to_string())
        };
        loaded.get_or_init(load).clone()
    };
    let metrics = Metrics::new()?.for_model(&name, &version);
    Ok(Services::new(name, version, Arc::new(model), metrics))
}
