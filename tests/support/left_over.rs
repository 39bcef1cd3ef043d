//! What a server has of the models it serves: when all others are gone it must be as it was before they came.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::Server;
use super::patience;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOver {
    /// Mapped libraries, and private copies of them on disk.
    libraries: u64,
    copies: usize,
    generations: u64,
    /// Folders of unpacked archives.
    packages: usize,
    /// Without those that are kept for a while: of the runtime's pool, and for the next trial of a library.
    threads: Vec<String>,
    /// Open files that are neither connections nor pipes to such a trial.
    files: usize,
}

const KEPT_FOR_A_WHILE: [&str; 2] = ["tokio-rt-worker", "canary-output"];

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

// === impl LeftOver ===

impl LeftOver {
    /// Of a server at rest.
    pub(crate) fn of(server: &Server) -> Self {
        let mut threads: Vec<_> =
            server.threads().into_iter().filter(|name| !KEPT_FOR_A_WHILE.contains(&name.as_str())).collect();
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
    pub(crate) fn is_all_there_is(&self, server: &Server) {
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

/// The open files of a process that are neither sockets nor pipes.
fn files(process: u32) -> usize {
    let all = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = all.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let is_file =
        |target: &PathBuf| !["socket:", "pipe:"].iter().any(|kind| target.to_string_lossy().starts_with(kind));
    targets.filter(is_file).count()
}
