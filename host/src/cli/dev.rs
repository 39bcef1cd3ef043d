//! `sconce dev`: a handler project is built, packed and served, and again at each save.

mod build;
mod library;
mod lines;
mod project;
mod session;
mod snapshot;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use crate::app::App;
use crate::app::Progress;
use crate::cli::serve;
use crate::cli::server_flags::ServerFlags;
use crate::cli::server_flags::environment;
use crate::config::ConfigSources;
use crate::config::Overrides;
use crate::config::ServerConfig;
use crate::telemetry;
use build::Cargo;
use project::Project;
use project::Wanted;
use session::Session;

/// Builds a handler project, packs and serves it, and again at each save, without losing a request.
///
/// Type it in a project that `sconce new` has made. What to pack is said under [package.metadata.sconce] in Cargo.toml.
/// At each save cargo builds again; the new code is tried in a process of its own, and then takes over from the code that serves, while the model stays in memory. What doesn't build, or fails its self-test, changes nothing.
/// Cargo's messages, the log's warnings and what handlers log go to standard error (the variable SCONCE_LOG says how much, as info); one line a swap goes to standard output.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Example:
  $ sconce new shout
  $ cd shout
  $ sconce dev
     Compiling shout v0.1.0 (/home/me/shout)
      Finished `dev` profile [optimized + debuginfo] target(s) in 9.21s
  serving shout 1.0 at http://127.0.0.1:8080/predictions/shout
    curl http://127.0.0.1:8080/predictions/shout -H 'content-type: text/plain' -d 'To be, or not to be'
    generation 1: built in 9.24 s, checked in 55 ms, started in 1.8 ms, swapped in 0.1 ms
  watching Cargo.lock, Cargo.toml, model-config.yaml, src, and the crate handler-sdk; Ctrl-C ends

Save src/lib.rs, and the same server answers with the new code:
  swapped to generation 2: built in 0.45 s, checked in 23 ms, started in 1.0 ms, swapped in 0.1 ms; generation 1 is unmapped

Save something that doesn't compile, and cargo says why:
  build failed (0.26 s): generation 2 goes on serving

What was built and packed lies in target/sconce/shout; on a server it goes into the plugins path and the model store.")]
pub struct DevArgs {
    /// The project's Cargo.toml; otherwise that of this folder, or of the next one above it.
    #[arg(long, value_name = "FILE")]
    manifest_path: Option<PathBuf>,

    /// Build as for production: slower to build, quicker to answer.
    #[arg(short, long)]
    release: bool,

    /// Features of the project to build with.
    #[arg(short = 'F', long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,

    /// Build without the project's default features.
    #[arg(long)]
    no_default_features: bool,

    /// How many workers call the handler, unless model-config.yaml says so.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    #[command(flatten)]
    server: ServerFlags,

    /// What becomes of the code of a handler that was swapped out: it stays mapped, or goes where nothing is left in it.
    #[arg(long, value_name = "POLICY", value_parser = ["retain", "unmap"], default_value = "unmap")]
    unload: String,
}

/// What is logged unless the operator says otherwise. Swaps are told by the session, so the log needn't.
const QUIET: &str = "warn,sconce::serving::swap=off";

pub fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let complaint = telemetry::start(QUIET);
    let project = Project::read(Wanted {
        manifest: project::manifest(args.manifest_path.as_deref())?,
        release: args.release,
        features: args.features.clone(),
        no_default_features: args.no_default_features,
    })?;
    project.make_folders()?;
    let (config, warnings) = args.config(&project)?;
    for warning in complaint.into_iter().chain(warnings) {
        tracing::warn!("{warning}");
    }
    let app = App::new(config, None)?;
    let cargo = Arc::new(Cargo::default());
    let mut session = Some(Session::new(project, Arc::clone(&cargo), app.registry()));
    let mut inference = None;
    serve::to_the_end(Ok(app), move |progress| match progress {
        Progress::Bound { api: "Inference", address } => inference = Some(address),
        Progress::Bound { .. } => {}
        // Clients wait for nothing yet: the first build comes now, with the ports known to be free.
        Progress::Started => {
            if let (Some(session), Some(address)) = (session.take(), inference) {
                session.start(address);
            }
        }
        Progress::Ending => cargo.end(),
    })
}

// === impl DevArgs ===

impl DevArgs {
    /// The server's configuration, with warnings about what has no effect in it.
    fn config(&self, project: &Project) -> anyhow::Result<(ServerConfig, Vec<String>)> {
        let sources = ConfigSources {
            environment: environment(),
            ts_config: self.server.ts_config.clone(),
            current_dir: std::env::current_dir().ok(),
            program_dir: None,
            overrides: self.server.overrides(Overrides {
                model_store: Some(project.store()),
                plugins_path: Some(project.plugins()),
                // The session knows when a build is complete, and nobody else changes these folders.
                watch: Some(false),
                // It is its developer's own, for as long as a terminal is open.
                disable_token_auth: true,
                unload: Some(self.unload.clone()),
                ..Overrides::default()
            }),
        };
        let (mut config, warnings) = ServerConfig::load(&sources).context("invalid configuration")?;
        // What an earlier session has packed is not served: it may be another project by now.
        config.load_models.clear();
        let workers = self.workers.map(usize::from).or(config.default_workers_per_model);
        config.default_workers_per_model = Some(workers.unwrap_or(1));
        Ok((config, warnings))
    }
}
