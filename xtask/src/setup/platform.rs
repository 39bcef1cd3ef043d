//! Which machines there are wheels for.

use std::env::consts;
use std::fmt;
use std::process::Command;

use anyhow::{Result, bail};

/// The oldest glibc (2.x) that the wheels run on: they are built for manylinux_2_28.
const GLIBC_MINOR: u32 = 28;

/// A processor that libtorch's wheels are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

// === impl Arch ===

impl Arch {
    /// This machine's, or why there is no libtorch for it.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let libc = if cfg!(target_env = "gnu") { "glibc" } else { "another C library" };
        let arch = Self::of(consts::OS, consts::ARCH, libc)?;
        if let Some(minor) = glibc_minor()
            && minor < GLIBC_MINOR
        {
            bail!(
                "this system has glibc 2.{minor}, and libtorch needs 2.{GLIBC_MINOR} or newer: \
                 use a newer distribution, or build in a container of one"
            );
        }
        Ok(arch)
    }

    fn of(os: &str, arch: &str, libc: &str) -> Result<Self> {
        match (os, arch, libc) {
            ("linux", "x86_64", "glibc") => Ok(Self::X86_64),
            ("linux", "aarch64", "glibc") => Ok(Self::Aarch64),
            _ => bail!(
                "setup knows Linux with glibc on x86-64 and aarch64, and this is {os} with {libc} \
                 on {arch}: build in a container of such a system, or set LIBTORCH to the folder \
                 of a libtorch of your own"
            ),
        }
    }

    /// The name in folder names and wheel tags.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Every wheel tag this machine takes, newest first.
    ///
    /// Named one by one, so that pip picks the same wheel whatever Python and pip the user has;
    /// NVIDIA's wheels carry older tags than torch's.
    pub(crate) fn wheel_platforms(self) -> Vec<String> {
        let name = self.name();
        (17..=GLIBC_MINOR)
            .rev()
            .map(|minor| format!("manylinux_2_{minor}_{name}"))
            .chain([format!("manylinux2014_{name}")])
            .collect()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `None` when the system doesn't say: then the download is tried.
fn glibc_minor() -> Option<u32> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    parse_glibc(&String::from_utf8_lossy(&output.stdout))
}

fn parse_glibc(text: &str) -> Option<u32> {
    text.trim().strip_prefix("glibc 2.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processors_on_linux_with_glibc() {
        assert_eq!(Arch::of("linux", "x86_64", "glibc").unwrap(), Arch::X86_64);
        assert_eq!(Arch::of("linux", "aarch64", "glibc").unwrap(), Arch::Aarch64);
        for (os, arch, libc) in [
            ("macos", "aarch64", "another C library"),
            ("linux", "riscv64", "glibc"),
            ("linux", "x86_64", "another C library"),
        ] {
            let message = Arch::of(os, arch, libc).unwrap_err().to_string();
            assert!(message.contains(os) && message.contains(arch), "{message}");
            assert!(message.contains("LIBTORCH"), "{message}");
        }
    }

    #[test]
    fn glibc_says_its_version() {
        assert_eq!(parse_glibc("glibc 2.36\n"), Some(36));
        assert_eq!(parse_glibc("glibc 2.17.1\n"), Some(17));
        assert_eq!(parse_glibc("musl"), None);
    }

    #[test]
    fn older_wheel_tags_are_taken_too() {
        let platforms = Arch::Aarch64.wheel_platforms();
        assert_eq!(platforms[0], "manylinux_2_28_aarch64");
        for tag in ["manylinux_2_25_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"] {
            assert!(platforms.iter().any(|platform| platform == tag), "{tag}");
        }
    }
}
