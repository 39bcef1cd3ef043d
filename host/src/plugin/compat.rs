//! Whether this host can use a library, decided from its note alone.

use handler_sdk::abi::ABI_VERSION;
use handler_sdk::abi::note::Note;

use super::LibraryFile;
use super::Refusal;
use crate::model::Runtime;

/// What the host was built with, and what it runs on.
#[derive(Debug, Clone)]
pub struct HostBuild {
    pub abi: (u32, u32),
    pub target: &'static str,
    pub libtorch: Option<&'static str>,
    /// The CPU's features, as the kernel names them; `None` where it names none.
    pub cpu_flags: Option<Vec<String>>,
}

/// The features that decide whether code runs at all, as `(rustc's name, the kernel's name)`; the rest is on every CPU of the target.
const CPU_FEATURES: [(&str, &str); 14] = [
    ("sse4.1", "sse4_1"),
    ("sse4.2", "sse4_2"),
    ("ssse3", "ssse3"),
    ("popcnt", "popcnt"),
    ("aes", "aes"),
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("f16c", "f16c"),
    ("fma", "fma"),
    ("bmi1", "bmi1"),
    ("bmi2", "bmi2"),
    ("avx512f", "avx512f"),
    ("avx512bw", "avx512bw"),
    ("avx512vl", "avx512vl"),
];

/// OpenMP runtimes that can't share a process with libtorch's.
const OTHER_OPENMP: [&str; 2] = ["libiomp5.so", "libomp.so"];

/// How the names of libraries begin that are the system's or libtorch's, and the same for all generations.
const SHARED: [&str; 18] = [
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libutil.so",
    "libgcc_s.so",
    "libstdc++.so",
    "ld-linux",
    "libtorch",
    "libc10",
    "libgomp",
    "libcuda",
    "libcublas",
    "libcudnn",
    "libcufft",
    "libnvrtc",
    "libnvToolsExt",
];

const ROOT: &str = abi_stable::library::ROOT_MODULE_LOADER_NAME;

/// Says why the library can't be used; the first reason that an author would have to mend.
pub fn judge(file: &LibraryFile, host: &HostBuild) -> Result<(), Refusal> {
    let note = &file.note;
    judge_abi(note, host)?;
    if note.panic == "abort" {
        return Err(Refusal::PanicAborts);
    }
    if note.target != host.target {
        return Err(Refusal::Target { plugin: note.target.clone(), host: host.target });
    }
    let missing = missing_features(note, host);
    if !missing.is_empty() {
        return Err(Refusal::CpuFeatures { missing });
    }
    if let Some(plugin) = note.libtorch.as_deref().filter(|&plugin| Some(plugin) != host.libtorch) {
        return Err(Refusal::Libtorch { plugin: plugin.to_owned(), host: host.libtorch.map(str::to_owned) });
    }
    let demands = &file.demands;
    let second = demands.needed.iter().find(|name| OTHER_OPENMP.iter().any(|other| name.starts_with(other)));
    if let Some(library) = second {
        return Err(Refusal::SecondOpenMp { library: library.clone() });
    }
    if demands.static_tls {
        return Err(Refusal::StaticTls);
    }
    if demands.registers_operators {
        return Err(Refusal::RegistersOperators);
    }
    if !file.has_root {
        return Err(Refusal::NoRoot { symbol: ROOT });
    }
    Ok(())
}

fn judge_abi(note: &Note, host: &HostBuild) -> Result<(), Refusal> {
    if note.abi.0 == host.abi.0 && note.abi.1 <= host.abi.1 {
        return Ok(());
    }
    Err(Refusal::Abi { sdk: note.sdk.clone(), plugin: note.abi, host: host.abi })
}

fn missing_features(note: &Note, host: &HostBuild) -> Vec<String> {
    let Some(flags) = &host.cpu_flags else {
        return Vec::new();
    };
    CPU_FEATURES
        .iter()
        .filter(|(name, flag)| {
            note.target_features.iter().any(|have| have == name) && !flags.iter().any(|have| have == flag)
        })
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

// === impl LibraryFile ===

impl LibraryFile {
    /// What an author should know of a library that is taken, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let own = self.demands.needed.iter().filter(|name| !SHARED.iter().any(|start| name.starts_with(start)));
        let path = self.demands.search_path.as_deref().filter(|path| path.contains("ORIGIN"));
        own.map(|name| {
            let mut text = format!(
                "needs {name}, of which a process loads one: after a swap the new handler gets the one that the old handler brought; link it statically, unless it comes with the system"
            );
            if let Some(path) = path {
                text += &format!("; its search path {path} starts at the server's private copy, where {name} is not");
            }
            text
        })
        .collect()
    }
}

// === impl HostBuild ===

impl HostBuild {
    /// This very program, on this machine.
    pub fn current() -> Self {
        let cpu_flags = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("flags"))?;
            Some(line.split_whitespace().map(str::to_owned).collect())
        });
        Self { abi: ABI_VERSION, target: env!("SCONCE_TARGET"), libtorch: Runtime::libtorch_version(), cpu_flags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Demands;

    fn host() -> HostBuild {
        HostBuild {
            abi: (1, 3),
            target: "x86_64-unknown-linux-gnu",
            libtorch: Some("2.11.0"),
            cpu_flags: Some(vec!["sse4_2".to_owned(), "avx".to_owned()]),
        }
    }

    fn file(change: impl FnOnce(&mut LibraryFile)) -> LibraryFile {
        let mut file = LibraryFile {
            path: "libx.so".into(),
            note: Note {
                abi: (1, 3),
                sdk: "1.3.0".to_owned(),
                panic: "unwind".to_owned(),
                target: "x86_64-unknown-linux-gnu".to_owned(),
                target_features: vec!["sse2".to_owned(), "avx".to_owned()],
                ..Note::default()
            },
            demands: Demands { needed: vec!["libc.so.6".to_owned()], ..Demands::default() },
            has_root: true,
        };
        change(&mut file);
        file
    }

    #[test]
    fn what_fits_is_taken() {
        let changes: [fn(&mut LibraryFile); 4] = [
            |_| {},
            |file| file.note.abi = (1, 0),
            |file| file.note.libtorch = Some("2.11.0".to_owned()),
            |file| file.note.rustc = "rustc 2.0.0".to_owned(),
        ];
        for change in changes {
            assert_eq!(judge(&file(change), &host()), Ok(()));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_remedy() {
        type Change = fn(&mut LibraryFile);
        let cases: [(Change, &[&str]); 11] = [
            (|file| file.note.abi = (1, 4), &["ABI 1.4", "this host has ABI 1.3", "update the host"]),
            (|file| file.note.abi = (2, 0), &["ABI 2.0", "update the host"]),
            (|file| file.note.abi = (0, 9), &["ABI 0.9", "build the plugin with a handler-sdk of ABI 1.x"]),
            (|file| file.note.panic = "abort".to_owned(), &["panic = \"abort\"", "Cargo.toml"]),
            (|file| file.note.target = "aarch64-unknown-linux-gnu".to_owned(), &["aarch64", "--target x86_64"]),
            (|file| file.note.target_features.push("avx2".to_owned()), &["avx2", "target-cpu=native"]),
            (|file| file.note.libtorch = Some("2.9.0".to_owned()), &["libtorch 2.9.0", "against libtorch 2.11.0"]),
            (|file| file.demands.needed.push("libiomp5.so".to_owned()), &["libiomp5.so", "OpenMP"]),
            (|file| file.demands.static_tls = true, &["DF_STATIC_TLS", "-ftls-model=initial-exec"]),
            (|file| file.demands.registers_operators = true, &["TORCH_LIBRARY", "a library of their own"]),
            (|file| file.has_root = false, &["lacks the symbol"]),
        ];
        for (change, parts) in cases {
            let text = judge(&file(change), &host()).unwrap_err().to_string();
            for part in parts {
                assert!(text.contains(part), "{text:?} should say {part:?}");
            }
        }
        let no_torch = HostBuild { libtorch: None, ..host() };
        let text =
            judge(&file(|file| file.note.libtorch = Some("2.11.0".to_owned())), &no_torch).unwrap_err().to_string();
        assert!(text.contains("this host has none"), "{text}");
    }

    #[test]
    fn a_library_that_is_not_the_systems_is_warned_of() {
        let with = |needed: &[&str], search_path: Option<&str>| {
            let needed = needed.iter().map(|&name| name.to_owned()).collect();
            let search_path = search_path.map(str::to_owned);
            file(|file| file.demands = Demands { needed, search_path, ..Demands::default() }).warnings()
        };
        let systems = ["libc.so.6", "libtorch_cpu.so", "libc10.so", "ld-linux-x86-64.so.2", "libcudart.so.13"];
        assert_eq!(with(&systems, Some("$ORIGIN")), Vec::<String>::new());
        let warnings = with(&["libc.so.6", "libvocabulary.so", "libcurl.so.4"], Some("/opt/lib"));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("needs libvocabulary.so") && warnings[0].contains("link it statically"));
        assert!(!warnings[0].contains("private copy"), "{}", warnings[0]);
        let text = &with(&["libvocabulary.so"], Some("${ORIGIN}/lib"))[0];
        assert!(text.contains("${ORIGIN}/lib starts at the server's private copy"), "{text}");
    }
}
