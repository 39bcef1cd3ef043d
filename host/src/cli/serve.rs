//! `sconce serve`: the server in the foreground, or in the background.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::app::App;
use crate::app::Progress;
use crate::cli::background;
use crate::cli::background::Outcome;
use crate::cli::pid_file;
use crate::cli::pid_file::PidFile;
use crate::cli::say;
use crate::cli::serve_flags::ServeFlags;
use crate::cli::stop;
use crate::config::ServerConfig;
use crate::plugin::Keeper;
use crate::plugin::leave;
use crate::plugin::own_thread;
use crate::telemetry;

/// Serves models over HTTP until SIGTERM or Ctrl-C.
///
/// The bound addresses are printed to standard output, the log goes to standard error (the variable SCONCE_LOG says how much, as debug).
/// It answers on http://127.0.0.1:8080 (predictions), :8081 (management) and :8082 (metrics) unless the configuration says otherwise.
/// Clients need a token: the keys are in key_file.json, in the folder where the server was started.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  sconce serve --model-store store --models all --plugins-path plugins --disable-token-auth
  curl http://127.0.0.1:8080/predictions/mnist -T 7.png
  curl http://127.0.0.1:8081/models/mnist      # how it is served, or why it isn't
  sconce serve --model-store store --models mnist=mnist.mar echo=echo.mar --plugins-path plugins --ts-config config.properties
  curl http://127.0.0.1:8080/ping -H \"Authorization: Bearer $(jq -r .inference.key key_file.json)\"
  sconce serve --background; sconce stop")]
pub struct ServeArgs {
    #[command(flatten)]
    flags: ServeFlags,

    /// Start the server, which is what happens without this, too.
    #[arg(long, conflicts_with_all = ["stop", "version"])]
    start: bool,

    /// Stop the server that runs in the background, as `sconce stop` does.
    #[arg(long, conflicts_with = "version")]
    stop: bool,

    /// Print the version.
    #[arg(short = 'v', long)]
    version: bool,

    /// Serve in this process until it is told to end; without it, torchserve starts another.
    #[arg(long)]
    foreground: bool,

    /// Serve in a process of its own, and return when requests are taken; the log goes to logs/ts_log.log.
    #[arg(long, conflicts_with = "foreground")]
    background: bool,

    /// Hold the process id in this file while it serves; of two servers with one file, the second is refused. The default in the background is .model_server.pid in the temporary folder.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// This is the process in the background, and that is its pid file.
    #[arg(long, hide = true, value_name = "FILE")]
    detached: Option<PathBuf>,
}

/// The name under which the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CalledAs {
    Sconce,
    Torchserve,
}

/// TorchServe's last release, whose contract this is.
const TORCHSERVE: &str = "0.12.0";

pub(super) fn run(args: &ServeArgs, called: CalledAs) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    if args.version {
        match called {
            CalledAs::Sconce => say(&format!("sconce {version}")),
            CalledAs::Torchserve => say(&format!("TorchServe Version is {TORCHSERVE} (Sconce {version})")),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.stop {
        return stop::stop(&args.pid_file()?, called);
    }
    let background = args.detached.is_none() && (args.background || called == CalledAs::Torchserve && !args.foreground);
    // TorchServe has one server a machine, in the foreground, too.
    let pid_file = match called {
        CalledAs::Sconce if args.detached.is_none() && !background => args.pid_file.clone(),
        _ => Some(args.pid_file()?),
    };
    if let Some(file) = &pid_file {
        pid_file::make_room(file, called)?;
    }
    if let Some(missing) = args.flags.missing() {
        anyhow::bail!(missing);
    }
    let (config, mut warnings) = match ServerConfig::load(&args.flags.sources()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("Invalid configuration: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if called == CalledAs::Torchserve && config.model_store.is_none() {
        anyhow::bail!("Missing mandatory parameter --model-store");
    }
    match pid_file {
        Some(file) if background => match background::start(called.name(), &file)? {
            Outcome::Serves => {
                if let Some(tokens) = &config.access.tokens {
                    let keys = std::path::absolute(&tokens.key_file)?;
                    say(&format!("Clients need a token. Key file located at {}", keys.display()));
                }
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Ended { said } => {
                eprint!("{said}");
                Ok(ExitCode::FAILURE)
            }
        },
        file => {
            warnings.extend(args.flags.without_effect());
            serve(args, config, &warnings, file.as_deref().map(|file| (file, called)))
        }
    }
}

fn serve(
    args: &ServeArgs,
    config: ServerConfig,
    warnings: &[String],
    pid_file: Option<(&Path, CalledAs)>,
) -> anyhow::Result<ExitCode> {
    if args.detached.is_some() {
        // No terminal that closes ends it.
        rustix::process::setsid().context("the process in the background can't leave its terminal")?;
    }
    // Before there is a second thread, or a file that must not stay open; where it can't be, the first trial starts one.
    let keeper = Keeper::fork().ok();
    let complaint = telemetry::start("info");
    for warning in complaint.iter().chain(warnings) {
        tracing::warn!("{warning}");
    }
    let held = pid_file.map(|(file, called)| PidFile::take(file, called)).transpose()?;
    // Scripts look for these lines.
    to_the_end(App::new(config, keeper), move |progress| {
        // The file goes when the server has ended, and this with it.
        let _ = &held;
        match progress {
            Progress::Bound { api, address } => say(&format!("{api} API bind to: http://{address}")),
            Progress::Started => say(background::STARTED),
            Progress::Ending => {}
        }
    })
}

// === impl CalledAs ===

impl CalledAs {
    fn name(self) -> &'static str {
        match self {
            Self::Sconce => "sconce",
            Self::Torchserve => "torchserve",
        }
    }
}

// === impl ServeArgs ===

impl ServeArgs {
    fn pid_file(&self) -> anyhow::Result<PathBuf> {
        self.detached.clone().or_else(|| self.pid_file.clone()).map_or_else(pid_file::usual_place, Ok)
    }
}

/// Serves until the process is told to end, and ends it.
pub(super) fn to_the_end(app: anyhow::Result<App>, tell: impl FnMut(Progress)) -> ! {
    let served = app.and_then(|app| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(connection_threads())
            .enable_all()
            .on_thread_start(own_thread)
            .build()?;
        let result = runtime.block_on(app.run(tell));
        // A client that keeps its connection open must not keep the process.
        runtime.shutdown_background();
        result
    });
    if let Err(error) = &served {
        eprintln!("sconce: {error:#}");
    }
    // Handlers may have left threads behind, and some may hang: libtorch's own clean-up must not run under them.
    leave(served.is_err().into())
}

/// One thread answers as many connections as four cores of workers keep busy; more of them would only wake one another and take the cores from the workers.
fn connection_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}
