//! The programs that setup and the build call, and what to type when one isn't there.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Error, Result};

use crate::process::find_program;

/// The first pip that knows the wheel tags of today.
const OLDEST_PIP: (u32, u32) = (20, 3);

/// A python3 whose pip works.
#[derive(Debug)]
pub(crate) struct Python {
    pub(crate) program: PathBuf,
    /// Major and minor.
    pub(crate) pip: (u32, u32),
}

/// Something setup can't go on without.
#[derive(Debug)]
struct Missing {
    what: String,
    fix: String,
}

/// What a distribution calls the packages.
struct Packages {
    manager: &'static str,
    install: &'static str,
    cc: &'static str,
    cxx: &'static str,
    python: &'static str,
    pip: &'static str,
}

const DISTRIBUTIONS: [Packages; 4] = [
    Packages {
        manager: "apt-get",
        install: "apt-get install",
        cc: "gcc",
        cxx: "g++",
        python: "python3 python3-pip",
        pip: "python3-pip",
    },
    Packages {
        manager: "dnf",
        install: "dnf install",
        cc: "gcc",
        cxx: "gcc-c++",
        python: "python3 python3-pip",
        pip: "python3-pip",
    },
    Packages {
        manager: "zypper",
        install: "zypper install",
        cc: "gcc",
        cxx: "gcc-c++",
        python: "python3 python3-pip",
        pip: "python3-pip",
    },
    Packages {
        manager: "pacman",
        install: "pacman -S",
        cc: "gcc",
        cxx: "gcc",
        python: "python python-pip",
        pip: "python-pip",
    },
];

/// That the build can run: it compiles C and C++.
pub(crate) fn for_build() -> Result<()> {
    refuse(builders())
}

/// The python3 that downloads; also that the build can run, so that the gaps of this machine are
/// named at once, before half a gigabyte is on its way.
pub(crate) fn for_download() -> Result<Python> {
    let mut missing = builders();
    match python() {
        Ok(python) => refuse(missing).map(|()| python),
        Err(gap) => {
            missing.push(gap);
            Err(refusal(missing))
        }
    }
}

fn refuse(missing: Vec<Missing>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(refusal(missing))
}

fn refusal(missing: Vec<Missing>) -> Error {
    let mut message = String::from("something is missing on this machine\n");
    for Missing { what, fix } in missing {
        // Writing to a String can't fail.
        let _ = write!(message, "\n  {what}\n      {fix}\n");
    }
    message.push_str("\nThen type the same command again.");
    Error::msg(message)
}

/// The C and C++ compilers that the build calls, and make.
fn builders() -> Vec<Missing> {
    builders_in(&search(), |name| env::var_os(name))
}

fn builders_in(search: &OsStr, variable: impl Fn(&str) -> Option<OsString>) -> Vec<Missing> {
    let mut missing = Vec::new();
    let is_there = |name: &str| find_program(OsStr::new(name), search).is_some();
    if !is_there("cc") {
        missing.push(Missing {
            what: "cc, the C compiler: it links every Rust program".into(),
            fix: install(search, |packages| packages.cc),
        });
    }
    let chosen = variable("CXX").filter(|value| !value.is_empty());
    let purpose = "the C++ compiler: it builds the bridge to libtorch";
    if let Some(chosen) = chosen {
        if find_program(&chosen, search).is_none() {
            missing.push(Missing {
                what: format!("{}, {purpose}, as CXX says", chosen.to_string_lossy()),
                fix: "unset CXX".into(),
            });
        }
    } else if !is_there("c++") {
        let other = ["g++", "clang++"].into_iter().find(|name| is_there(name));
        missing.push(Missing {
            what: format!("c++, {purpose}"),
            fix: other.map_or_else(
                || install(search, |packages| packages.cxx),
                // Build scripts look for `c++` only.
                |name| format!("export CXX={name}"),
            ),
        });
    }
    if !is_there("make") {
        missing
            .push(Missing { what: "make: it builds the allocator, jemalloc".into(), fix: install(search, |_| "make") });
    }
    missing
}

/// The python3 on the search path, if its pip works.
fn python() -> Result<Python, Missing> {
    let search = search();
    let Some(program) = find_program(OsStr::new("python3"), &search) else {
        return Err(Missing {
            what: "python3 with pip: it downloads libtorch, and nothing else".into(),
            fix: install(&search, |packages| packages.python),
        });
    };
    let output = Command::new(&program).args(["-m", "pip", "--version"]).output();
    let said = output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let Some(pip) = said.as_deref().and_then(pip_version) else {
        return Err(Missing {
            what: format!("pip for {}: it downloads libtorch", program.display()),
            fix: format!("{}   (or: python3 -m ensurepip --user)", install(&search, |packages| packages.pip)),
        });
    };
    if pip < OLDEST_PIP {
        return Err(Missing {
            what: format!(
                "a newer pip: {}.{} of {} doesn't know today's packages, {}.{} does",
                pip.0,
                pip.1,
                program.display(),
                OLDEST_PIP.0,
                OLDEST_PIP.1
            ),
            fix: "python3 -m pip install --user --upgrade pip".into(),
        });
    }
    Ok(Python { program, pip })
}

/// From `pip 23.2.1 from … (python 3.11)`.
fn pip_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("pip ")?.split([' ', '.']);
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

fn install(search: &OsStr, package: impl Fn(&Packages) -> &'static str) -> String {
    let sudo = if rustix::process::getuid().is_root() { "" } else { "sudo " };
    DISTRIBUTIONS.iter().find(|packages| find_program(OsStr::new(packages.manager), search).is_some()).map_or_else(
        || {
            let names = DISTRIBUTIONS.each_ref().map(&package);
            format!("install the package {} (names differ by system)", names[0])
        },
        |packages| format!("{sudo}{} {}", packages.install, package(packages)),
    )
}

fn search() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that holds these programs.
    fn folder(programs: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            let path = folder.path().join(program);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn fixes(programs: &[&str], cxx: Option<&str>) -> Vec<String> {
        let folder = folder(programs);
        builders_in(folder.path().as_os_str(), |_| cxx.map(OsString::from))
            .into_iter()
            .map(|missing| missing.fix.replace("sudo ", ""))
            .collect()
    }

    #[test]
    fn each_missing_tool_has_its_remedy() {
        assert!(fixes(&["cc", "c++", "make"], None).is_empty());
        assert!(fixes(&["cc", "clang++", "make"], Some("clang++")).is_empty());
        assert_eq!(fixes(&["cc", "clang++", "make"], None), ["export CXX=clang++"]);
        assert_eq!(fixes(&["cc", "c++", "make"], Some("icpx")), ["unset CXX"]);
        assert_eq!(fixes(&["apt-get"], None), ["apt-get install gcc", "apt-get install g++", "apt-get install make"]);
        assert_eq!(fixes(&["cc", "make", "dnf"], None), ["dnf install gcc-c++"]);
        assert_eq!(fixes(&["cc", "make"], None), ["install the package g++ (names differ by system)"]);
    }

    #[test]
    fn pip_says_its_version() {
        assert_eq!(pip_version("pip 23.2.1 from /x (python 3.11)"), Some((23, 2)));
        assert_eq!(pip_version("pip 26.0 from /x"), Some((26, 0)));
        assert_eq!(pip_version("No module named pip"), None);
    }
}
