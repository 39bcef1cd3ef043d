//! The flags of every command that serves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::config::Overrides;

/// Where a server takes its configuration from, and where it answers.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerFlags {
    /// A config.properties; the variable TS_CONFIG_FILE wins over it.
    #[arg(long, value_name = "FILE")]
    pub(super) ts_config: Option<PathBuf>,

    /// Where predictions are answered; port 0 takes any that is free.
    #[arg(long, value_name = "http://HOST:PORT")]
    inference_address: Option<String>,

    /// Where models are described, registered and scaled.
    #[arg(long, value_name = "http://HOST:PORT")]
    management_address: Option<String>,

    /// Where metrics are exposed.
    #[arg(long, value_name = "http://HOST:PORT")]
    metrics_address: Option<String>,

    /// Where unpacked archives and private copies of libraries go; the file system must allow execution. The default is the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    work_dir: Option<PathBuf>,
}

// === impl ServerFlags ===

impl ServerFlags {
    /// With the command's own flags over them.
    pub(super) fn overrides(&self, own: Overrides) -> Overrides {
        Overrides {
            inference_address: self.inference_address.clone(),
            management_address: self.management_address.clone(),
            metrics_address: self.metrics_address.clone(),
            work_dir: self.work_dir.clone(),
            ..own
        }
    }
}

/// The environment, as far as it is text.
pub(super) fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}
