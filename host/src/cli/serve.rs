//! `sconce serve`: the server in the foreground.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::app::App;
use crate::app::Progress;
use crate::cli::say;
use crate::cli::server_flags::ServerFlags;
use crate::config::ConfigSources;
use crate::config::Overrides;
use crate::config::ServerConfig;
use crate::plugin::leave;
use crate::plugin::own_thread;
use crate::telemetry;

/// Serves models over HTTP until SIGTERM or Ctrl-C.
///
/// The bound addresses are printed to standard output, the log goes to standard error (the variable SCONCE_LOG says how much, as debug).
/// It answers on http://127.0.0.1:8080 (predictions), :8081 (management) and :8082 (metrics) unless the configuration says otherwise.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  sconce serve --model-store store --models all --plugins-path plugins
  sconce serve --model-store store --models mnist=mnist.mar echo=echo.mar --plugins-path plugins --ts-config config.properties
  curl http://127.0.0.1:8080/predictions/mnist -T 7.png -H \"Authorization: Bearer $(jq -r .inference.key key_file.json)\"
  sconce serve --model-store store --models all --plugins-path plugins --disable-token-auth
  curl http://127.0.0.1:8081/models/mnist      # how it is served, or why it isn't")]
pub struct ServeArgs {
    /// The folder with the archives.
    #[arg(long, value_name = "FOLDER")]
    model_store: Option<PathBuf>,

    /// What to load at start: archives in the model store, each as NAME=ARCHIVE or ARCHIVE, or all.
    #[arg(long, value_name = "MODEL", num_args = 1.., value_delimiter = ',')]
    models: Vec<String>,

    /// Where handlers are looked up by name: a folder with .so files, or one such file.
    #[arg(long, visible_alias = "ppath", value_name = "FOLDER")]
    plugins_path: Option<PathBuf>,

    #[command(flatten)]
    server: ServerFlags,

    /// Ask nobody for a token.
    #[arg(long, visible_alias = "dt")]
    disable_token_auth: bool,

    /// Let clients register and unregister models.
    #[arg(long)]
    enable_model_api: bool,

    /// Don't watch the model store and the plugins path; handlers are then swapped over the management API alone.
    #[arg(long)]
    no_watch: bool,

    /// What becomes of the code of a handler that was swapped out: it stays mapped, or goes where nothing is left in it.
    #[arg(long, value_name = "POLICY", value_parser = ["retain", "unmap"])]
    unload: Option<String>,
}

pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let complaint = telemetry::start("info");
    let sources = ConfigSources {
        environment: environment(),
        overrides: args.server.overrides(Overrides {
            model_store: args.model_store,
            models: args.models,
            plugins_path: args.plugins_path,
            disable_token_auth: args.disable_token_auth,
            enable_model_api: args.enable_model_api,
            watch: args.no_watch.then_some(false),
            unload: args.unload,
            ..Overrides::default()
        }),
        ts_config: args.server.ts_config,
        current_dir: std::env::current_dir().ok(),
    };
    let (config, warnings) = match ServerConfig::load(&sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("Invalid configuration: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in complaint.into_iter().chain(warnings) {
        tracing::warn!("{warning}");
    }
    // Scripts look for these lines.
    to_the_end(App::new(config), |progress| match progress {
        Progress::Bound { api, address } => say(&format!("{api} API bind to: http://{address}")),
        Progress::Started => say("Model server started."),
        Progress::Ending => {}
    })
}

/// The environment, as far as it is text.
pub(super) fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Serves until the process is told to end, and ends it.
pub(super) fn to_the_end(app: anyhow::Result<App>, tell: impl FnMut(Progress)) -> ! {
    let served = app.and_then(|app| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_start(own_thread).build()?;
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
