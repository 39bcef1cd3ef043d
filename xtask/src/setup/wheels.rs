//! Wheels, by package name, through pip: it knows the user's index, proxy and certificates.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::LIBTORCH;
use super::platform::Arch;
use super::tools::Python;
use crate::progress::Progress;

/// The interpreter the wheel is for. Its C++ libraries are the same for every one; a fixed choice
/// gives everybody the same file, whatever Python they have.
const FOR_PYTHON: &str = "3.11";

/// A package of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wheel {
    package: &'static str,
    version: &'static str,
}

pub(crate) const TORCH: Wheel = Wheel { package: "torch", version: LIBTORCH };

/// The CUDA libraries that a libtorch_cpu asks for when it was built together with CUDA, by the
/// beginning of the library's name. They are small, and run without a GPU or a driver.
const OTHERS: [(&str, Wheel); 2] = [
    ("libcudart.so", Wheel { package: "nvidia-cuda-runtime", version: "13.0.96" }),
    ("libcupti.so", Wheel { package: "nvidia-cuda-cupti", version: "13.0.85" }),
];

// === impl Wheel ===

impl Wheel {
    /// The package beside torch that brings this library.
    pub(crate) fn with_library(name: &str) -> Option<Self> {
        OTHERS.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, wheel)| *wheel)
    }

    /// The whole wheel in this folder, if an earlier setup got that far.
    pub(crate) fn find(self, folder: &Path) -> Option<PathBuf> {
        // Files lie there under their final name only when pip was done with them.
        let beginning = format!("{}-{}", self.package.replace('-', "_"), self.version);
        wheels_in(folder)
            .into_iter()
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning)))
    }

    /// The wheel, downloaded unless it is there already.
    pub(crate) fn fetch(self, arch: Arch, python: &Python, folder: &Path) -> Result<PathBuf> {
        if let Some(path) = self.find(folder) {
            println!("  download {self}: kept from before");
            return Ok(path);
        }
        // Pip's temporary files go there too: /tmp may be small, and the bar watches them grow.
        let part = tempfile::Builder::new()
            .prefix("part-")
            .tempdir_in(folder)
            .with_context(|| format!("nothing can be written in {}", folder.display()))?;
        self.download(arch, python, part.path())?;
        let Some(wheel) = wheels_in(part.path()).pop() else {
            bail!("pip said that it has {}, and there is no wheel", self.package)
        };
        let name = wheel.file_name().unwrap_or_default();
        let path = folder.join(name);
        fs::rename(&wheel, &path).with_context(|| format!("{} can't be moved into the cache", wheel.display()))?;
        Ok(path)
    }

    fn download(self, arch: Arch, python: &Python, into: &Path) -> Result<()> {
        let mut progress = Progress::start(format!("download {self}"), None);
        let (reader, writer) = io::pipe().context("no pipe for pip")?;
        let mut command = Command::new(&python.program);
        command
            .args(self.arguments(arch, python.pip))
            .arg("--dest")
            .arg(into)
            .env("TMPDIR", into)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone().context("no pipe for pip")?)
            .stderr(writer);
        let mut pip = command.spawn().context("pip can't be started")?;
        // The command holds the pipe's other end: without this the lines would never end.
        drop(command);

        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(Duration::from_millis(150)) {
                Ok(line) => {
                    if let Some(total) = announced_size(&line) {
                        progress.set_total(total);
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Timeout) => progress.set(largest_file(into)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = pip.wait().context("pip can't be waited for")?;
        if !status.success() {
            drop(progress);
            bail!(self.refusal(arch, &said));
        }
        progress.set_total(largest_file(into));
        progress.finish();
        Ok(())
    }

    fn arguments(self, arch: Arch, pip: (u32, u32)) -> Vec<String> {
        let words = [
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--disable-pip-version-check",
            // This folder is the cache; pip's own would keep the half gigabyte a second time.
            "--no-cache-dir",
            "--progress-bar=off",
            "--implementation=cp",
        ];
        let mut arguments: Vec<String> = words.map(String::from).into();
        arguments.push(format!("--python-version={FOR_PYTHON}"));
        for platform in arch.wheel_platforms() {
            arguments.push(format!("--platform={platform}"));
        }
        // Before 25.1 pip refuses the option, and starts again from nothing.
        if pip >= (25, 1) {
            arguments.push("--resume-retries=10".into());
        }
        arguments.push(format!("{}=={}", self.package, self.version));
        arguments
    }

    fn refusal(self, arch: Arch, said: &[String]) -> String {
        let text = said.join("\n");
        let advice = if text.contains("No space left") {
            "Free some space, or set SCONCE_CACHE_DIR to a folder on another disk."
        } else if text.contains("No matching distribution") {
            "The package index that pip asks doesn't have it, or can't be reached: look at \
             `python3 -m pip config list` and at the network."
        } else {
            "Is there a network? Behind a proxy, set HTTPS_PROXY."
        };
        let last: Vec<String> =
            said.iter().skip(said.len().saturating_sub(12)).map(|line| format!("  pip: {line}")).collect();
        format!(
            "pip couldn't download {self} for {arch}; its last words were:\n\n{}\n\n{advice}\n\
             Then type the same command again: what is whole is kept.",
            last.join("\n")
        )
    }
}

impl fmt::Display for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.version)
    }
}

/// From `  Downloading torch-2.11.0-….whl (530.6 MB)`.
fn announced_size(line: &str) -> Option<u64> {
    if !line.trim_start().starts_with("Downloading ") {
        return None;
    }
    let (_, size) = line.rsplit_once('(')?;
    let (number, unit) = size.trim_end().strip_suffix(')')?.split_once(' ')?;
    let factor = match unit {
        "bytes" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * factor) as u64)
}

fn wheels_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .collect()
}

/// Pip moves and removes while this looks: what is gone counts as nothing.
fn largest_file(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let found = entry.metadata().ok()?;
            Some(if found.is_dir() { largest_file(&entry.path()) } else { found.len() })
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_is_told_the_whole_platform() {
        let arguments = TORCH.arguments(Arch::Aarch64, (23, 2));
        assert_eq!(arguments.last().unwrap(), "torch==2.11.0");
        for expected in ["--no-deps", "--platform=manylinux_2_28_aarch64", "--python-version=3.11"] {
            assert!(arguments.iter().any(|argument| argument == expected), "{expected}");
        }
        let resumes = |pip| {
            let arguments = TORCH.arguments(Arch::X86_64, pip);
            arguments.iter().any(|argument| argument.starts_with("--resume-retries"))
        };
        assert!(!resumes((25, 0)));
        assert!(resumes((25, 1)) && resumes((26, 0)));
    }

    #[test]
    fn pip_announces_how_much_comes() {
        for (line, size) in [
            ("  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (530.6 MB)", Some(530_600_000)),
            ("Downloading x.whl (12 kB)", Some(12_000)),
            ("Downloading x.whl.metadata", None),
            ("Collecting torch==2.11.0", None),
            ("Saved ./torch.whl (2.0 MB)", None),
        ] {
            assert_eq!(announced_size(line), size, "{line}");
        }
    }

    #[test]
    fn a_wheel_is_found_by_package_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Wheel::with_library("libcudart.so.13").unwrap();
        assert_eq!(runtime.find(folder.path()), None);
        for name in ["nvidia_cuda_runtime-13.0.96-py3-none-x.whl", "torch-2.11.0-x.part"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(runtime.find(folder.path()).is_some());
        assert_eq!(TORCH.find(folder.path()), None);
        assert_eq!(Wheel::with_library("libgomp.so.1"), None);
    }

    #[test]
    fn a_refusal_ends_with_what_to_do() {
        let said = |line: &str| TORCH.refusal(Arch::X86_64, &[line.to_owned()]);
        assert!(said("OSError: No space left on device").contains("another disk"));
        assert!(said("ERROR: No matching distribution found").contains("config list"));
        assert!(said("timed out").contains("HTTPS_PROXY"));
    }
}
