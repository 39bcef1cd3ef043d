//! The flags that make up a server's configuration: TorchServe's names, and our own.

use std::path::PathBuf;

use clap::Args;

use crate::cli::server_flags::ServerFlags;
use crate::cli::server_flags::environment;
use crate::config::CONFIG_VARIABLE;
use crate::config::ConfigSources;
use crate::config::Overrides;

/// What `sconce serve` serves, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct ServeFlags {
    /// The folder with the archives.
    #[arg(long, value_name = "FOLDER")]
    pub(super) model_store: Option<PathBuf>,

    /// What to load at start: archives in the model store, each as NAME=ARCHIVE or ARCHIVE, or all.
    #[arg(long, value_name = "MODEL", num_args = 1.., value_delimiter = ',')]
    models: Vec<String>,

    /// Where handlers are looked up by name: a folder with .so files, or one such file. The default is the folder plugins beside the program, or the program's own.
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

    /// What becomes of the code of a handler that was swapped out: it stays mapped, which is the default, or goes where nothing is left in it.
    #[arg(long, value_name = "POLICY", value_parser = ["retain", "unmap"])]
    unload: Option<String>,

    /// As TorchServe has it; no effect, since workflows are not supported.
    #[arg(long, value_name = "FOLDER", help_heading = "Taken for TorchServe's sake")]
    workflow_store: Option<PathBuf>,

    /// A file for log4j; no effect: the variable SCONCE_LOG says what is logged.
    #[arg(long, value_name = "FILE", help_heading = "Taken for TorchServe's sake")]
    log_config: Option<PathBuf>,

    /// A file for TorchServe's C++ workers; no effect.
    #[arg(long, value_name = "FILE", help_heading = "Taken for TorchServe's sake")]
    cpp_log_config: Option<PathBuf>,

    /// Write no snapshots of the configuration; none are written.
    #[arg(long, visible_alias = "ncs", help_heading = "Taken for TorchServe's sake")]
    no_config_snapshots: bool,
}

// === impl ServeFlags ===

impl ServeFlags {
    pub(super) fn sources(&self) -> ConfigSources {
        ConfigSources {
            environment: environment(),
            overrides: self.server.overrides(Overrides {
                model_store: self.model_store.clone(),
                models: self.models.clone(),
                plugins_path: self.plugins_path.clone(),
                workflow_store: self.workflow_store.clone(),
                cpp_log_config: self.cpp_log_config.clone(),
                disable_token_auth: self.disable_token_auth,
                enable_model_api: self.enable_model_api,
                watch: self.no_watch.then_some(false),
                unload: self.unload.clone(),
                ..Overrides::default()
            }),
            ts_config: self.server.ts_config.clone(),
            current_dir: std::env::current_dir().ok(),
            // Where the program itself lies, whatever links lead there.
            program_dir: std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned())),
        }
    }

    /// What is named and isn't there, in TorchServe's words.
    pub(super) fn missing(&self) -> Option<String> {
        let from_variable = std::env::var_os(CONFIG_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        let config = from_variable.or_else(|| self.server.ts_config.clone());
        let files =
            [("--ts-config", &config), ("--log-config", &self.log_config), ("--cpp-log-config", &self.cpp_log_config)];
        let folders = [("--model-store", &self.model_store), ("--workflow-store", &self.workflow_store)];
        let file = files.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        let mut file = file.filter(|(_, path)| !path.is_file());
        let folder = folders.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        let mut folder = folder.filter(|(_, path)| !path.is_dir());
        let file = file.next().map(|(flag, path)| format!("{flag} file not found: {}", path.display()));
        file.or_else(|| folder.next().map(|(flag, path)| format!("{flag} directory not found: {}", path.display())))
    }

    /// One sentence for each flag that is no key of the configuration and changes nothing.
    pub(super) fn without_effect(&self) -> Option<String> {
        self.log_config.is_some().then(|| {
            "flag --log-config: a file for log4j has no effect: the variable SCONCE_LOG says what is logged".to_owned()
        })
    }
}
