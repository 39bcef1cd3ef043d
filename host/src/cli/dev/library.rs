//! The file that cargo has built: copied, read, and traced back to what it was made from.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::plugin::LibraryFile;

/// Puts a copy into the plugins path, in one step, and nothing else stays there: cargo writes its own file in place. Tells whether another one lay there.
pub(super) fn put(library: &Path, plugins: &Path) -> anyhow::Result<bool> {
    let failed = || format!("can't copy {} to {}", library.display(), plugins.display());
    let name = library.file_name().with_context(failed)?;
    let place = plugins.join(name);
    let content = fs::read(library).with_context(failed)?;
    if fs::read(&place).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    let mut copy = NamedTempFile::new_in(plugins).with_context(failed)?;
    copy.write_all(&content).with_context(failed)?;
    for entry in fs::read_dir(plugins).with_context(failed)?.flatten() {
        // Under another name, from before the library was renamed; its handler would be there twice.
        if entry.file_name() != name && entry.path().extension().is_some_and(|extension| extension == "so") {
            fs::remove_file(entry.path()).with_context(failed)?;
        }
    }
    copy.persist(place).with_context(failed)?;
    Ok(true)
}

pub(super) fn only_handler(library: &Path) -> anyhow::Result<String> {
    let names = LibraryFile::read(library)?.handler_names();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => anyhow::bail!("the library has no handler: name the handler's type in export_handler!"),
        _ => anyhow::bail!(
            "the library has the handlers {}: say which one serves, with handler = in [package.metadata.sconce]",
            names.join(", ")
        ),
    }
}

/// What cargo says a library was made from, in the file of rules that it writes beside it: every source, what sources include, and what build scripts read.
pub(super) fn inputs(library: &Path) -> Vec<PathBuf> {
    let rules = fs::read_to_string(library.with_extension("d")).unwrap_or_default();
    rules.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, files)| paths(files)).collect()
}

/// The absolute paths of a rule; a space in a path has a backslash before it.
fn paths(rule: &str) -> Vec<PathBuf> {
    let spaced = rule.replace("\\ ", "\0");
    let words = spaced.split(' ').map(|word| PathBuf::from(word.replace('\0', " ")));
    words.filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_s_rules_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libx.so");
        assert_eq!(inputs(&library), Vec::<PathBuf>::new());
        fs::write(folder.path().join("libx.d"), "/t/libx.so: /a/src/lib.rs /a/my\\ words.txt relative.rs\n").unwrap();
        assert_eq!(inputs(&library), [PathBuf::from("/a/src/lib.rs"), PathBuf::from("/a/my words.txt")]);
    }

    #[test]
    fn a_library_takes_the_place_of_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let (built, plugins) = (folder.path().join("libnew.so"), folder.path().join("plugins"));
        fs::create_dir(&plugins).unwrap();
        fs::write(&built, "new").unwrap();
        for name in ["libold.so", "libnew.so", "notes.txt"] {
            fs::write(plugins.join(name), "old").unwrap();
        }
        assert!(put(&built, &plugins).unwrap());
        assert!(!put(&built, &plugins).unwrap());
        let mut names: Vec<_> = fs::read_dir(&plugins).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["libnew.so", "notes.txt"]);
        assert_eq!(fs::read(plugins.join("libnew.so")).unwrap(), b"new");
    }
}
