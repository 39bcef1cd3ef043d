//! Traces in files, one of each batch: what TorchServe's variable ENABLE_TORCH_PROFILER asks for.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use super::trace::FIRST_WORKER;
use super::trace::Trace;
use super::trace::TracedBatch;
use crate::ids::ModelName;
use crate::ids::ModelVersion;

/// Where the traces of one endpoint go.
#[derive(Debug)]
pub(super) struct TraceFiles {
    folder: PathBuf,
    model: ModelName,
    version: ModelVersion,
    written: AtomicUsize,
}

/// The most files of one endpoint, so that a variable that was forgotten doesn't fill the disk.
const MOST_FILES: usize = 1000;

// === impl TraceFiles ===

impl TraceFiles {
    /// In a folder of the model's name below this one.
    pub(super) fn new(root: &Path, model: &ModelName, version: &ModelVersion) -> Self {
        let written = AtomicUsize::new(0);
        Self { folder: root.join(model.as_str()), model: model.clone(), version: version.clone(), written }
    }

    pub(super) fn has_room(&self) -> bool {
        self.written.load(Ordering::Relaxed) < MOST_FILES
    }

    /// Writes a file; where that fails, it is logged, and no further one is written.
    pub(super) fn write(&self, batch: Arc<TracedBatch>) {
        let (model, version, folder) = (&self.model, &self.version, self.folder.display());
        match self.try_write(batch) {
            Err(error) => {
                self.written.store(MOST_FILES, Ordering::Relaxed);
                tracing::error!(%model, %version, %folder, %error, "a trace can't be written, and no further one is tried");
            }
            Ok(()) if self.written.fetch_add(1, Ordering::Relaxed) + 1 == MOST_FILES => {
                tracing::warn!(%model, %version, %folder, most = MOST_FILES, "so many traces are written, and no further one is: unset ENABLE_TORCH_PROFILER, or start again");
            }
            Ok(()) => {}
        }
    }

    fn try_write(&self, batch: Arc<TracedBatch>) -> io::Result<()> {
        let now = SystemTime::now();
        let nanoseconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        // As PyTorch's own profiler names them, which TensorBoard looks for.
        let name = format!("worker{}.{nanoseconds}.pt.trace.json", FIRST_WORKER + batch.worker);
        let (model, version) = (self.model.clone(), self.version.clone());
        let trace = Trace { model, version, began: now, batches: vec![batch], answer: None };
        let text = trace.chrome()?;
        fs::create_dir_all(&self.folder)?;
        // Nothing that is there, be it a link, is written to.
        File::create_new(self.folder.join(name))?.write_all(text.as_bytes())
    }
}
