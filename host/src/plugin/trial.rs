//! The keeper's side of a trial, and the canary's: the whole trial, in a process that may die of it.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::PipeWriter;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use handler_sdk::ContextInfo;
use handler_sdk::Device;
use handler_sdk::ModelKind;
use handler_sdk::abi::instance::CallError;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::WaitOptions;

use super::CanaryRequest;
use super::Library;
use super::PluginError;
use super::Services;
use super::Step;
use super::canary::Orders;
use super::canary::Report;
use crate::config::MetricsConfig;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::metrics::HandlerMetrics;
use crate::metrics::Metrics;
use crate::metrics::Profile;
use crate::model::Accelerators;
use crate::model::ModelOptions;
use crate::model::Runtime;
use crate::model::load as load_model;
use crate::model::open_operators;
use crate::model::register_own_operators;

/// For so long a keeper waits for orders: it takes as much memory as libtorch does, and a start of it takes a quarter of a second.
const IDLE: Duration = Duration::from_secs(10);

/// What the program does when it was started with the command `keeper` and its parent's process id: it keeps canaries.
pub fn run_keeper(parent: u32) -> anyhow::Result<()> {
    end_with(i32::try_from(parent).ok().and_then(Pid::from_raw))?;
    let socket = take_socket().context("this command is for the server alone: use `sconce check`")?;
    keep_canaries(&socket)
}

/// What a process does that the server has forked off as a keeper: the same, behind a socket that it has inherited.
pub(super) fn be_keeper(socket: &UnixStream, print: PipeWriter, server: Pid) -> ! {
    let begin = || -> anyhow::Result<()> {
        end_with(Some(server))?;
        // A group of its own: a Ctrl-C for the server is none for it.
        rustix::process::setpgid(None, None)?;
        rustix::thread::set_name(c"sconce-keeper")?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(&print)?;
        rustix::stdio::dup2_stderr(print)?;
        Ok(())
    };
    let kept = begin().and_then(|()| keep_canaries(socket));
    if let Err(error) = &kept {
        // Its last words.
        let _ = writeln!(io::stderr(), "{error:#}");
    }
    super::leave(kept.is_err().into())
}

/// It must not outlive the server, not even one that ended before this line.
fn end_with(server: Option<Pid>) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    anyhow::ensure!(rustix::process::getppid() == server, "the server that started this process is gone");
    Ok(())
}

fn keep_canaries(socket: &UnixStream) -> anyhow::Result<()> {
    // The crash of a canary needs no core file.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    Runtime::start(Accelerators::None, 1)?;
    socket.set_read_timeout(Some(IDLE))?;
    let mut lines = BufReader::new(socket);
    loop {
        let mut orders = String::new();
        match lines.read_line(&mut orders) {
            // The server is gone, or has asked nothing for a long time: the memory is worth more.
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            read => read?,
        };
        let orders: Orders = serde_json::from_str(&orders)?;
        keep_canary(orders, socket)?;
    }
}

/// Forks a canary for one trial, and waits for its end.
fn keep_canary(orders: Orders, socket: &UnixStream) -> anyhow::Result<()> {
    let keeper = rustix::process::getpid();
    let Some(canary) = fork()? else {
        let passed = be_canary(orders, socket, keeper);
        if let Err(error) = &passed {
            // Its last words.
            let _ = writeln!(io::stderr(), "{error:#}");
        }
        super::leave(passed.is_err().into())
    };
    // The canary does the same; whoever comes first, it is done before anybody hears of the canary.
    let _ = rustix::process::setpgid(Some(canary), Some(canary));
    report(socket, &Report::Born { process: canary.as_raw_nonzero().get() })?;
    // Its number stays its own, and that of its group, until it is reaped.
    let looking = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let ended = loop {
        match rustix::process::waitid(WaitId::Pid(canary), looking) {
            Err(Errno::INTR) => {}
            ended => break ended?.context("the canary has no end; this is a bug")?,
        }
    };
    let _ = rustix::process::kill_process_group(canary, Signal::KILL);
    // Told before it is reaped: the server must not kill by a number that may be somebody else's.
    let status = match (ended.terminating_signal(), ended.exit_status()) {
        (Some(signal), _) => signal,
        (None, code) => code.unwrap_or_default() << 8,
    };
    report(socket, &Report::Ended { status })?;
    rustix::process::waitpid(Some(canary), WaitOptions::empty())?;
    Ok(())
}

/// `None` in the process that is forked off.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("a process with {threads} threads can't be forked")));
    }
    // SAFETY: this process has one thread, so no lock is held that the child would wait for.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        process => Pid::from_raw(process).filter(|_| process > 0).map(Some).ok_or_else(io::Error::last_os_error),
    }
}

/// The forked process: the trial, on a thread of its own, as in the server.
fn be_canary(orders: Orders, socket: &UnixStream, keeper: Pid) -> anyhow::Result<()> {
    // Should the keeper be killed, so is this; it must not be gone already.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    anyhow::ensure!(rustix::process::getppid() == Some(keeper), "the keeper of this trial is gone");
    rustix::process::setpgid(None, None)?;
    std::thread::scope(|scope| {
        let trial = std::thread::Builder::new().name("canary".to_owned()).spawn_scoped(scope, move || {
            let verdict = try_out(&orders, socket)?;
            report(socket, &verdict)
        })?;
        trial.join().map_err(|_| anyhow::anyhow!("the trial itself panicked"))?
    })
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
    let (operators, orders) = match orders {
        Orders::Operators { libraries, with_own } => {
            begin(Step::Operators)?;
            if *with_own {
                register_own_operators()?;
            }
            (libraries, None)
        }
        Orders::Library(trial) => (&trial.request.operators, Some(trial)),
    };
    if !operators.is_empty() {
        begin(Step::Operators)?;
    }
    for library in operators {
        if let Err(error) = open_operators(library) {
            return Ok(Report::Failed { step: Step::Operators, reason: error.to_string() });
        }
    }
    let Some(orders) = orders else { return Ok(Report::Passed) };
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
    let context = &orders.request.context;
    let is_compiled = context.model_kind == Some(ModelKind::AotInductor);
    // What was compiled for a GPU runs nowhere else.
    let runs_here = !is_compiled || context.device == Device::Cpu.to_string();
    if is_compiled && runs_here {
        begin(Step::Model)?;
        if let Err(reason) = services.model() {
            return Ok(Report::Failed { step: Step::Model, reason });
        }
    }
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
    if runs_here {
        begin(Step::SelfTest)?;
        if let Err(error) = instance.self_test(&services) {
            return Ok(failed(Step::SelfTest, error));
        }
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
            load_model(&path, Device::Cpu, ModelOptions::default()).map_err(|error| error.to_string())
        };
        loaded.get_or_init(load).clone()
    };
    // What is recorded here is shown to nobody.
    let metrics = Metrics::new(&MetricsConfig::default())?.for_model(&name, &version);
    Ok(Services::new(name, version, Arc::new(model), HandlerMetrics::new(metrics, Profile::Off)))
}
