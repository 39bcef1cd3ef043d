//! The layers of ARCHITECTURE.md, read from the imports: which module knows which, where each foreign crate lives, where unsafe code is, and how long files are.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::support::repository;

/// The host's modules, each with those it may import besides itself; `app`, `cli` and `main` may import all.
const LAYERS: [(&str, &[&str]); 10] = [
    ("ids", &[]),
    ("telemetry", &[]),
    ("config", GROUND),
    ("metrics", GROUND),
    ("archive", GROUND),
    ("model", GROUND),
    ("plugin", &["config", "ids", "metrics", "telemetry", "model"]),
    ("serving", &["config", "ids", "metrics", "telemetry", "archive", "model", "plugin"]),
    ("http", &["config", "ids", "metrics", "telemetry", "serving"]),
    ("reload", &["config", "ids", "metrics", "telemetry", "archive", "serving"]),
];

const GROUND: &[&str] = &["config", "ids", "metrics", "telemetry"];

/// Modules that know all.
const TOP: [&str; 4] = ["app", "cli", "main", "lib"];

/// Crates, and the places in the repository that may use them; all others do without.
const HOMES: &[(&[&str], &[&str])] = &[
    (
        &["axum", "tower", "hyper", "hyper_util", "http_body", "http_body_util", "multer"],
        &["host/src/http/", "host/src/app.rs"],
    ),
    (
        &["tokio"],
        &["host/src/serving/", "host/src/http/", "host/src/reload/", "host/src/app.rs", "host/src/cli/serve.rs"],
    ),
    (
        &["tch", "torch_sys"],
        &[
            "host/src/model/torch/",
            "handler-sdk/src/lib.rs",
            "handler-sdk/src/abi/values.rs",
            "handler-sdk/src/tensor/",
            "handler-sdk/src/network/architectures/",
        ],
    ),
    (&["libloading"], &["host/src/plugin/library.rs"]),
    (&["object"], &["host/src/plugin/note.rs"]),
    (&["notify"], &["host/src/reload/watcher.rs"]),
    (
        &["zip", "tar", "flate2"],
        &[
            "host/src/archive/",
            "host/src/model/package/",
            "host/src/model/state_dict/",
            "handler-sdk/src/pickle/",
            "handler-sdk/src/torch_file/write.rs",
            "handler-sdk/src/torch_file/tests.rs",
        ],
    ),
    (&["tokenizers"], &["handler-sdk/src/text/tokenizer.rs"]),
    (&["unicode_normalization"], &["handler-sdk/src/text/clean.rs"]),
    (&["ureq", "rustls_native_certs"], &["host/src/archive/fetch.rs", "host/src/archive/fetch_tests.rs"]),
    (&["pytorch_reader", "safetensors"], &["host/src/model/state_dict/"]),
    (&["libc"], &["host/src/plugin/"]),
    (
        &["rustix"],
        &[
            "host/src/plugin/",
            "host/src/reload/file_system.rs",
            "host/src/metrics/system.rs",
            "host/src/model/torch/tune.rs",
            "host/src/cli/",
        ],
    ),
    (&["cargo_metadata"], &["host/src/cli/dev/"]),
    (&["serde_saphyr"], &["host/src/archive/model_config.rs", "host/src/metrics/definitions.rs"]),
    (&["java_properties"], &["host/src/config/properties.rs"]),
    (&["getrandom", "subtle"], &["host/src/http/key_ring.rs"]),
    (&["utoipa", "utoipa_axum"], &["host/src/http/"]),
    (&["regex"], &["host/src/config/access.rs"]),
    (&["prometheus", "sysinfo"], &["host/src/metrics/"]),
    (&["nvml_wrapper"], &["host/src/metrics/gpu.rs"]),
    (&["clap"], &["host/src/cli/"]),
    (&["image", "gif", "libjpeg_turbo_rs"], &["handler-sdk/src/vision/"]),
    (
        &["abi_stable"],
        &[
            "handler-sdk/src/abi/",
            "handler-sdk/src/export.rs",
            "host/src/plugin/",
            // Strings and slices on their way across, made where a call is made.
            "handler-sdk/src/context.rs",
            "handler-sdk/src/model.rs",
            "handler-sdk/src/testing/",
        ],
    ),
];

/// Where unsafe code is at home.
const UNSAFE: [&str; 5] = [
    "host/src/plugin/",
    "host/src/model/torch/",
    "handler-sdk/src/abi/",
    "handler-sdk/src/testing/",
    "handler-sdk/src/export.rs",
];

/// The folders of Rust code that the rules on unsafe code and on length are for. Fixtures are strangers' work.
const ALL: [&str; 7] = ["bench", "handler-sdk", "host", "plugins", "model-store", "xtask", "tests"];

/// A longer file says in its header why it is one.
const LONG: usize = 400;

#[test]
fn imports_run_one_way() {
    let files = files(&["host/src"]);
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for file in &files {
        let module = module(&file.path);
        if TOP.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            panic!("{}: the module {module} has no place in the table of layers: give it one", file.path);
        };
        seen.push(module.clone());
        for (line, other) in file.modules() {
            let known = other == module || allowed.contains(&other.as_str());
            if !known && is_module(&other) {
                wrong.push(format!("{}:{line}: {module} must not know {other}", file.path));
            }
        }
    }
    for (module, _) in &LAYERS {
        assert!(seen.iter().any(|name| name == module), "no file of the module {module} was read");
    }
    assert!(wrong.is_empty(), "imports run up the layers of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn each_foreign_crate_has_one_home() {
    let mut wrong = Vec::new();
    let mut used = Vec::new();
    for file in files(&["host/src", "handler-sdk/src"]) {
        for (crates, homes) in HOMES {
            for name in *crates {
                let Some(line) = file.uses(name) else { continue };
                used.push(*name);
                if !homes.iter().any(|home| file.path.starts_with(home)) {
                    wrong.push(format!("{}:{line}: {name} is at home in {}", file.path, homes.join(", ")));
                }
            }
        }
    }
    for name in ["axum", "tokio", "tch", "libloading", "zip", "abi_stable"] {
        assert!(used.contains(&name), "no use of {name} was seen, so this test sees nothing");
    }
    assert!(wrong.is_empty(), "a foreign crate is used outside its home:\n{}", wrong.join("\n"));
}

#[test]
fn handlers_know_only_the_contract() {
    let mut wrong = Vec::new();
    for file in files(&["handler-sdk/src", "plugins"]) {
        let foreign = ["sconce", "tokio", "axum", "tracing"];
        let found = foreign.iter().filter_map(|name| Some((file.uses(name)?, name)));
        wrong.extend(found.map(|(line, name)| format!("{}:{line}: {name}", file.path)));
    }
    assert!(
        wrong.is_empty(),
        "the contract and the plugins know neither the host nor its crates:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn unsafe_code_has_its_homes() {
    let mut wrong = Vec::new();
    let mut homes = 0;
    for file in files(&ALL) {
        let Some(line) = file.has_word("unsafe") else { continue };
        if UNSAFE.iter().any(|home| file.path.starts_with(home)) {
            homes += 1;
        } else {
            wrong.push(format!("{}:{line}", file.path));
        }
    }
    assert!(homes >= 5, "unsafe code was seen in {homes} files, so this test sees too little");
    assert!(wrong.is_empty(), "unsafe code outside {}:\n{}", UNSAFE.join(", "), wrong.join("\n"));
}

#[test]
fn a_long_file_says_why() {
    let mut wrong = Vec::new();
    for file in files(&ALL) {
        let length = file.text.lines().count();
        let header = file.text.lines().take_while(|line| line.starts_with("//!")).collect::<String>();
        if length > LONG && !["long", "length", "lines"].iter().any(|word| header.contains(word)) {
            wrong.push(format!("{}: {length} lines", file.path));
        }
    }
    assert!(
        wrong.is_empty(),
        "over {LONG} lines, and no word in the header why the file is so long; find a seam, or say it:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_hazards_name_tests_that_are_there() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let (_, hazards) = text.split_once("## Hazards of hot swap").unwrap();
    let sources: String = files(&ALL).into_iter().map(|file| file.text).collect();
    let cells = hazards.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit('|').next());
    let names: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let missing: Vec<_> = names
        .iter()
        .filter(|name| match name.contains('/') {
            true => !["", "host/src/"].iter().any(|root| {
                let path = repository().join(format!("{root}{name}"));
                path.exists() || path.with_extension("rs").exists()
            }),
            false => !sources.contains(&format!("fn {name}()")),
        })
        .collect();
    assert!(names.len() > 40, "only {} tests were seen in ARCHITECTURE.md", names.len());
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that don't exist: {missing:?}");
}

#[test]
fn the_rules_see_what_they_forbid() {
    let file = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let source = file(
        "host/src/archive/x.rs",
        "//! tokio::fs in words\n// crate::http in words\nuse crate::serving::Job;\nuse super::super::plugin;\nlet text = \"libloading::x\"; let _ = tch::Tensor::new();\nuse axum as web;\nmod unsafe_looking;\n",
    );
    assert_eq!(source.modules(), [(3, "serving".to_owned()), (4, "plugin".to_owned())]);
    assert_eq!(source.uses("tch"), Some(5));
    assert_eq!(source.uses("axum"), Some(6));
    for name in ["tokio", "libloading", "Tensor"] {
        assert_eq!(source.uses(name), None, "{name}");
    }
    assert_eq!(source.has_word("unsafe"), None);
    assert_eq!(file("x.rs", "a\n  unsafe { b }\n").has_word("unsafe"), Some(2));
    let braces =
        file("host/src/http/x.rs", "use crate::{ids::A, plugin::{B, C}, model};\nuse crate::\n    archive::D;\n");
    let found: Vec<_> = braces.modules().into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["ids", "plugin", "model", "archive"]);
}

/// A file, and its code without comments and without what is quoted.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let code = text.lines().map(bare).collect::<Vec<_>>().join("\n");
        Self { path, text, code }
    }

    /// The modules of the crate that are named by `crate::` or by climbing out of one's own, with their lines.
    fn modules(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (start, _) in self.code.match_indices("crate::") {
            if !is_free(&self.code, start) {
                continue;
            }
            let rest = self.code[start + "crate::".len()..].trim_start();
            let line = self.line(start);
            found.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
        // From a file in a module's folder, two steps up and more leave the module.
        for (start, _) in self.code.match_indices("super::super::") {
            let rest = self.code[start..].trim_start_matches("super::");
            let line = self.line(start);
            found.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
        found.retain(|(_, name)| is_module(name));
        found
    }

    /// The line of the first use of a crate.
    fn uses(&self, name: &str) -> Option<usize> {
        let found = self.code.match_indices(name).find(|(start, _)| {
            let after = &self.code[start + name.len()..];
            let imported = self.code[..*start].ends_with("use ") && after.starts_with([';', ' ']);
            is_free(&self.code, *start) && (after.starts_with("::") || imported)
        });
        found.map(|(start, _)| self.line(start))
    }

    fn has_word(&self, word: &str) -> Option<usize> {
        let found = self.code.match_indices(word).find(|(start, _)| {
            let after = self.code[start + word.len()..].chars().next();
            is_free(&self.code, *start) && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
        });
        found.map(|(start, _)| self.line(start))
    }

    fn line(&self, place: usize) -> usize {
        self.code[..place].matches('\n').count() + 1
    }
}

/// Whether the name that begins here is not the end of a longer one, or of a path.
fn is_free(code: &str, start: usize) -> bool {
    !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// The first names of a path, several where it goes on in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(inside) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (place, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(inside[start..place].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(inside[start..place].trim_start()));
                start = place + 1;
            }
            _ => {}
        }
    }
    names
}

/// A line without its comment and without the content of its strings.
fn bare(line: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut before = ' ';
    for c in line.chars() {
        match c {
            '"' if before != '\\' && before != '\'' => quoted = !quoted,
            '/' if !quoted && before == '/' => {
                out.pop();
                break;
            }
            _ if quoted => {}
            _ => out.push(c),
        }
        before = if before == '\\' && c == '\\' { ' ' } else { c };
    }
    out
}

/// The host's module that a file belongs to.
fn module(path: &str) -> String {
    let inside = path.strip_prefix("host/src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

fn is_module(name: &str) -> bool {
    TOP.contains(&name) || LAYERS.iter().any(|(module, _)| *module == name)
}

/// The Rust files below these folders.
fn files(folders: &[&str]) -> Vec<Source> {
    let root = repository();
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            Source::new(name, text)
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let skipped = path.ends_with("fixtures") || path.ends_with("target");
            if !skipped {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}
