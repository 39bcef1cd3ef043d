//! The child's side of a canary: the whole trial, in a process that may die of it.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::OnceLock;

use anyhow::Context;
use handler_sdk::ContextInfo;
use handler_sdk::Device;
use handler_sdk::abi::instance::CallError;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;

use super::CanaryRequest;
use super::Library;
use super::PluginError;
use super::Services;
use super::Step;
use super::canary::Orders;
use super::canary::Report;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::Metrics;
use crate::model::Accelerators;
use crate::model::Runtime;
use crate::model::load as load_model;

/// What the program does when it was started with the command `canary` and its parent's process id: the whole trial.
pub fn run_child(parent: u32) -> anyhow::Result<()> {
    // The child must not outlive the server, not even one that ended before this line.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    anyhow::ensure!(rustix::process::getppid() == parent, "the server that started this trial is gone");
    // Its crash needs no core file.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    let socket = take_socket().context("this command is for the server alone: use `sconce check`")?;
    let mut orders = String::new();
    BufReader::new(&socket).read_line(&mut orders)?;
    let orders: Orders = serde_json::from_str(&orders)?;
    Runtime::start(Accelerators::None, 1)?;
    // A thread of its own, as in the server.
    let trial = std::thread::Builder::new().name("canary".to_owned()).spawn(move || {
        let verdict = try_out(&orders, &socket)?;
        report(&socket, &verdict)
    })?;
    trial.join().map_err(|_| anyhow::anyhow!("the trial itself panicked"))?
}

/// Takes the socket from standard input, and leaves nothing there for what the library starts.
fn take_socket() -> anyhow::Result<UnixStream> {
    let socket = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(socket)
}

fn report(mut socket: &UnixStream, report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    Ok(socket.write_all(&line)?)
}

fn try_out(orders: &Orders, socket: &UnixStream) -> anyhow::Result<Report> {
    let failed = |step, error| match error {
        CallError::Failed(error) | CallError::Panicked(error) => {
            Report::Failed { step, reason: error.log_text().to_owned() }
        }
    };
    let begin = |step| report(socket, &Report::Begin(step));
    begin(Step::Open)?;
    let library = match Library::open_for_trial(&orders.library) {
        Ok(library) => Arc::new(library),
        Err(PluginError::Layout { reason, .. }) => return Ok(Report::Layout { reason }),
        Err(PluginError::Open { reason, .. }) => {
            return Ok(Report::Failed { step: Step::Open, reason });
        }
        Err(error) => return Err(error.into()),
    };
    let services = services(&orders.request)?;
    begin(Step::Create)?;
    let mut instance = match library.instantiate(&orders.request.handler, &services) {
        Ok(instance) => instance,
        Err(PluginError::TrialFailed { step, reason, .. }) => return Ok(Report::Failed { step, reason }),
        Err(error) => return Err(error.into()),
    };
    begin(Step::Initialize)?;
    if let Err(error) = instance.initialize(&on_the_cpu(&orders.request.context), &services) {
        return Ok(failed(Step::Initialize, error));
    }
    begin(Step::SelfTest)?;
    if let Err(error) = instance.self_test(&services) {
        return Ok(failed(Step::SelfTest, error));
    }
    begin(Step::Drop)?;
    drop(instance);
    begin(Step::OpenAgain)?;
    // Beside the first, which stays: what can be there only once in a process shows now.
    match Library::open_again_for_trial(&orders.again) {
        Ok(_) => Ok(Report::Passed),
        Err(PluginError::Open { reason, .. } | PluginError::Layout { reason, .. }) => {
            Ok(Report::Failed { step: Step::OpenAgain, reason })
        }
        Err(error) => Err(error.into()),
    }
}

/// A second copy of a model may not fit on a GPU, and opening CUDA takes longer than most trials.
fn on_the_cpu(context: &ContextInfo) -> ContextInfo {
    let mut context = context.clone();
    context.device = Device::Cpu.to_string();
    context.properties.remove("gpu_id");
    context
}

/// The model is read only if the handler asks: most handlers don't.
fn services(request: &CanaryRequest) -> anyhow::Result<Services> {
    let name = ModelName::parse(&request.context.model_name)?;
    let version = ModelVersion::new(request.context.model_version.clone());
    let path = request.model.clone();
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
