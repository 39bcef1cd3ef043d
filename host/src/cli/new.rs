//! `sconce new`: a handler project that builds, tests and serves as it stands.

mod name;
mod sdk;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use self::name::ProjectName;
use self::sdk::Sdk;

/// Makes a handler project: a crate with a handler that works, its tests and its settings.
///
/// It lies where you like, outside this repository too, and depends on handler-sdk by path or by version.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  sconce new word-count                             # ./word-count: answers with no model and no libtorch
  sconce new classifier --tch                       # works on tensors with the crate tch; needs libtorch 2.11.0 to build
  sconce new word-count --path ~/handlers/words     # in that folder
  sconce new word-count --sdk ~/sconce/handler-sdk  # with the handler-sdk of that checkout
  sconce new word-count --sdk 1.0                   # with that version from cargo's registry

Then:
  cd word-count
  cargo test
  sconce dev")]
pub struct NewArgs {
    /// The name of the crate, and of the model: small letters, digits, '-' and '_', as word-count.
    #[arg(value_name = "NAME")]
    name: String,

    /// Work on tensors with the crate tch; building then needs libtorch 2.11.0.
    #[arg(long)]
    tch: bool,

    /// The project's folder, new or empty. The default is NAME in the current folder.
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,

    /// Where handler-sdk comes from: its folder in a checkout of Sconce, or a version, as 1.0.
    ///
    /// The default is the checkout that this program was built from, or this program's own version where that is gone.
    /// A folder whose name looks like a version is written with './' before it.
    #[arg(long, value_name = "PATH|VERSION")]
    sdk: Option<String>,
}

/// What the two kinds of project differ in.
struct Template {
    files: &'static [File],
    features: &'static [&'static str],
    purpose: &'static str,
    content_type: &'static str,
    request: &'static str,
    answer: &'static str,
}

struct File {
    path: &'static str,
    text: &'static str,
    /// For the list of what was made.
    about: &'static str,
}

/// A project that is still to be written.
struct Project {
    name: ProjectName,
    template: &'static Template,
    folder: PathBuf,
    sdk: Sdk,
    /// Of the checkout that the SDK is taken from; `None` where it isn't needed, or isn't there.
    libtorch: Option<PathBuf>,
}

const PLAIN: Template = Template {
    files: &[
        File {
            path: "Cargo.toml",
            text: include_str!("new/templates/plain/Cargo.toml.in"),
            about: "what it stands on, and what is packed",
        },
        File {
            path: "src/lib.rs",
            text: include_str!("new/templates/plain/lib.rs.in"),
            about: "the handler, with its tests",
        },
        File {
            path: "model-config.yaml",
            text: include_str!("new/templates/plain/model-config.yaml.in"),
            about: "its settings",
        },
        README,
        GITIGNORE,
    ],
    features: &[],
    purpose: "answers the words that a text uses most",
    content_type: "text/plain",
    request: "To be, or not to be",
    answer: include_str!("new/templates/plain/answer.json"),
};

const TCH: Template = Template {
    files: &[
        File {
            path: "Cargo.toml",
            text: include_str!("new/templates/tch/Cargo.toml.in"),
            about: "what it stands on, and what is packed",
        },
        File {
            path: "src/lib.rs",
            text: include_str!("new/templates/tch/lib.rs.in"),
            about: "the handler, with its tests",
        },
        File {
            path: "build.rs",
            text: include_str!("new/templates/tch/build.rs.in"),
            about: "lets `cargo test` find libtorch",
        },
        File {
            path: "model-config.yaml",
            text: include_str!("new/templates/tch/model-config.yaml.in"),
            about: "its settings",
        },
        README,
        GITIGNORE,
    ],
    features: &["tch"],
    purpose: "turns a list of scores into probabilities",
    content_type: "application/json",
    request: "[2, 1, 0]",
    answer: include_str!("new/templates/tch/answer.json"),
};

const README: File = File {
    path: "README.md",
    text: include_str!("new/templates/README.md.in"),
    about: "how to build, test, pack and serve it",
};

const GITIGNORE: File = File {
    path: ".gitignore",
    text: include_str!("new/templates/gitignore.in"),
    about: "keeps out of git what is built and packed",
};

/// Only where there is a libtorch to point to.
const CARGO_CONFIG: File = File {
    path: ".cargo/config.toml",
    text: include_str!("new/templates/tch/cargo-config.toml.in"),
    about: "the libtorch to build with",
};

const LIBTORCH_FOUND: &str = "\
It is built with the libtorch 2.11.0 that `.cargo/config.toml` names; a `LIBTORCH` of your own in the environment wins.
";

const LIBTORCH_MISSING: &str = "\
To build it, set `LIBTORCH` to the folder of a libtorch 2.11.0; `cargo xtask setup` in a checkout of Sconce fetches one.
";

/// Makes the project, and tells what was made and what to type next.
pub fn run(args: &NewArgs) -> anyhow::Result<()> {
    let name: ProjectName = args.name.parse()?;
    let sdk = args.sdk.as_deref().map_or_else(|| Ok(Sdk::default()), Sdk::from_flag)?;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    let project = Project {
        name,
        template: if args.tch { &TCH } else { &PLAIN },
        folder,
        libtorch: args.tch.then(|| sdk.libtorch()).flatten(),
        sdk,
    };
    project.write()?;
    print!("{}", project.report());
    Ok(())
}

// === impl Project ===

impl Project {
    fn files(&self) -> impl Iterator<Item = &'static File> {
        self.template.files.iter().chain(self.libtorch.is_some().then_some(&CARGO_CONFIG))
    }

    /// Writes all files, into a folder that has none.
    fn write(&self) -> anyhow::Result<()> {
        refuse_what_is_there(&self.folder)?;
        let values = self.values()?;
        for file in self.files() {
            let path = self.folder.join(file.path);
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
            fs::write(&path, fill(file.text, &values)).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }

    /// What the places in double braces stand for.
    fn values(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let libtorch_text = match (self.template.features.is_empty(), &self.libtorch) {
            (true, _) => "",
            (false, Some(_)) => LIBTORCH_FOUND,
            (false, None) => LIBTORCH_MISSING,
        };
        Ok(vec![
            ("name", self.name.as_str().to_owned()),
            ("type", self.name.type_name()),
            ("handler", self.name.handler()),
            ("library", self.name.library()),
            ("sdk", self.sdk.dependency(self.template.features)?),
            ("sdk_source", self.sdk.about()),
            ("purpose", self.template.purpose.to_owned()),
            ("libtorch", libtorch_text.to_owned()),
            ("libtorch_path", self.libtorch.as_deref().map(sdk::quoted).transpose()?.unwrap_or_default()),
            ("content_type", self.template.content_type.to_owned()),
            ("request", self.template.request.to_owned()),
            ("answer", self.template.answer.trim_end().to_owned()),
        ])
    }

    fn report(&self) -> String {
        let folder = self.folder.display();
        let mut text = format!("made {folder}, with the handler {}:\n", self.name.handler());
        for file in self.files() {
            text += &format!("  {:<20}{}\n", file.path, file.about);
        }
        text += &format!(
            "\nhandler-sdk: {}; for another, change Cargo.toml, or make the project with --sdk PATH|VERSION\n",
            self.sdk
        );
        if !self.template.features.is_empty() {
            text += &match (std::env::var_os("LIBTORCH"), &self.libtorch) {
                (Some(own), _) => format!("libtorch: {}, from LIBTORCH\n", own.display()),
                (None, Some(found)) => format!("libtorch: {}; for another, set LIBTORCH\n", found.display()),
                (None, None) => "libtorch: none was found; before you build, set LIBTORCH to the folder of a libtorch \
                                 2.11.0 (`cargo xtask setup` in a checkout of Sconce fetches one)\n"
                    .to_owned(),
            };
        }
        text + &format!("\nnext:\n  cd {folder}\n  cargo test\n  sconce dev\n")
    }
}

/// A project must not mix with what somebody has made.
fn refuse_what_is_there(folder: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            anyhow::bail!("{} is a file: give the project another folder with --path FOLDER", folder.display());
        }
        Err(error) => return Err(error).with_context(|| format!("can't read the folder {}", folder.display())),
    };
    let names: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let names = names.with_context(|| format!("can't read the folder {}", folder.display()))?;
    if let Some(name) = names.iter().min() {
        anyhow::bail!(
            "{} is not empty: {} lies in it; nothing was written: choose another NAME, or another folder with --path FOLDER",
            folder.display(),
            name.display()
        );
    }
    Ok(())
}

/// Replaces each `{{key}}`. What is filled in is not looked at again.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let found = values.iter().find_map(|(key, value)| {
            let rest = after.strip_prefix(key)?.strip_prefix("}}")?;
            Some((value, rest))
        });
        match found {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
            None => {
                text.push_str("{{");
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_in_the_templates_is_filled() {
        for (template, libtorch) in [(&PLAIN, None), (&TCH, None), (&TCH, Some(PathBuf::from("/libtorch")))] {
            let project = Project {
                name: "word-count".parse().unwrap(),
                template,
                folder: PathBuf::new(),
                sdk: Sdk::Version("1.0".to_owned()),
                libtorch,
            };
            let values = project.values().unwrap();
            for file in project.files() {
                let text = fill(file.text, &values);
                assert!(!text.contains("{{"), "{}: {text}", file.path);
            }
        }
    }

    #[test]
    fn a_filled_value_is_not_filled_again() {
        let values = [("a", "{{b}}".to_owned()), ("b", "2".to_owned())];
        assert_eq!(fill("{{a}} {{b}} {{c}} {", &values), "{{b}} 2 {{c}} {");
    }
}
