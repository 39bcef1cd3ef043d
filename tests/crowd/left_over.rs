//! What a server has of the models it serves: when all others are gone it must be as it was before they came.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::support::Server;
use crate::support::patience;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOver {
    /// Mapped libraries, and private copies of them on disk.
    libraries: u64,
    copies: usize,
    generations: u64,
    /// Folders of unpacked archives.
    packages: usize,
    /// Without those of the pool that the runtime keeps for a while.
    threads: Vec<String>,
    /// Open files that aren't connections.
    files: usize,
}

/// The runtime names all its threads so.
const POOL: &str = "tokio-rt-worker";

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

// === impl LeftOver ===

impl LeftOver {
    pub(super) fn of(server: &Server) -> Self {
        let mut threads: Vec<_> = server.threads().into_iter().filter(|name| name != POOL).collect();
        threads.sort_unstable();
        Self {
            libraries: server.metric("sconce_libraries_mapped", &[]),
            copies: server.copies(),
            generations: server.metric("sconce_generations", &[]),
            packages: packages(&server.work()),
            threads,
            files: files(server.id()),
        }
    }

    /// Waits until the server has nothing else: what is retired goes in the background.
    pub(super) fn is_all_there_is(&self, server: &Server) {
        server.comes_to_rest();
        let end = Instant::now() + patience();
        let mut now = Self::of(server);
        while now != *self && Instant::now() < end {
            std::thread::park_timeout(PAUSE);
            now = Self::of(server);
        }
        assert_eq!(now, *self, "more is left than there was before");
    }
}

/// The unpacked archives below its work folder.
fn packages(work: &Path) -> usize {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_package = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("package-");
    entries(work).flat_map(|of_run| entries(&of_run).collect::<Vec<_>>()).filter(is_package).count()
}

/// The open files of a process that aren't sockets.
fn files(process: u32) -> usize {
    let all = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = all.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    targets.filter(|target| !target.to_string_lossy().starts_with("socket:")).count()
}
