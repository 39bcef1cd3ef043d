//! `plugins`: the server and every plugin of ours, as one builds them to serve archives.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{process, setup, workspace};

/// Builds them for release, and says how to serve with them.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    let plugins = plugins(&workspace::root())?;
    let packages: Vec<&str> = std::iter::once("sconce").chain(plugins.iter().map(String::as_str)).collect();
    println!("\n== build the server and {} plugins (the first time takes minutes)", plugins.len());
    let folder = workspace::build_release(&packages)?;
    println!();
    for plugin in &plugins {
        let library = folder.join(format!("lib{}.so", plugin.replace('-', "_")));
        let size = library.metadata().with_context(|| format!("cargo built no {}", library.display()))?.len();
        println!("{:<40} {:>6.1} MB", workspace::short(&library), size as f64 / 1e6);
    }
    let mut serve = workspace::program(&folder, "sconce");
    serve.args(["serve", "--model-store", "FOLDER", "--models", "all", "--plugins-path"]);
    serve.arg(workspace::short(&folder));
    let sconce = workspace::short(&folder.join("sconce"));
    println!(
        "\nServe the archives of a folder with them:\n\n  {}",
        process::shown(&serve).replacen("sconce", &sconce, 1)
    );
    println!("\nplugins/README.md says which archives each one serves.");
    Ok(())
}

/// The packages in the folder `plugins`, in alphabetical order.
fn plugins(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("plugins");
    let entries = folder.read_dir().with_context(|| format!("{} can't be read", folder.display()))?;
    let packages = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.path().join("Cargo.toml").is_file().then(|| entry.file_name().to_string_lossy().into_owned())
    });
    let mut packages: Vec<String> = packages.collect();
    packages.sort();
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_is_told_in_the_readme() {
        let root = workspace::root();
        let readme = std::fs::read_to_string(root.join("plugins/README.md")).unwrap();
        let plugins = plugins(&root).unwrap();
        assert!(plugins.len() >= 8, "{plugins:?}");
        for plugin in plugins {
            assert!(readme.contains(&format!("| `{plugin}` |")), "plugins/README.md has no row for {plugin}");
            assert!(readme.contains(&format!("-p {plugin}\n")), "plugins/README.md doesn't say how to build {plugin}");
        }
    }
}
