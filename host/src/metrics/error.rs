//! Why the metrics can't be set up.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("can't read {}, which metrics_config names: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{}: {detail}", path.display())]
    BadDefinitions { path: PathBuf, detail: String },
    #[error("can't write metrics to {}: {cause}; set METRICS_LOCATION to a folder that can be written to, or metrics_mode=prometheus", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
    #[error("the metric {name:?} can't be exposed: {cause}")]
    NotExposed { name: String, cause: prometheus::Error },
    #[error("the server's own metrics can't be exposed: {0}")]
    Own(#[from] prometheus::Error),
}
