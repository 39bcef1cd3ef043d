//! What a swap costs from the call of the registry to the new generation's serving: the echo plugin, whose trial has passed.
//!
//! It needs the server and the plugin beside it, built for release: `cargo build --release -p sconce`, and the same with `-p echo`.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use sconce::archive::Package;
use sconce::config::ServerConfig;
use sconce::metrics::Metrics;
use sconce::model::Accelerators;
use sconce::model::Runtime;
use sconce::plugin::Canary;
use sconce::plugin::Catalogue;
use sconce::plugin::LibraryStore;
use sconce::serving::Loader;
use sconce::serving::NewModel;
use sconce::serving::Origin;
use sconce::serving::Registry;
use tempfile::TempDir;

const MODEL: &str = "echo";

fn swaps(criterion: &mut Criterion) {
    let (registry, _folder) = registry().unwrap_or_else(|error| panic!("{error:#}"));
    let mut group = criterion.benchmark_group("swap");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("echo, by the registry's reload", |bencher| {
        bencher.iter(|| registry.reload(MODEL, None).unwrap_or_else(|error| panic!("{error}")));
    });
    group.finish();
    registry.close();
}

/// One that serves the echo plugin.
fn registry() -> Result<(Arc<Registry>, TempDir)> {
    let programs = programs()?;
    let folder = tempfile::tempdir()?;
    let mut archive = Command::new(programs.join("sconce"));
    archive.args(["archive", "--model-name", MODEL, "--version", "1.0", "--handler", MODEL, "--export-path"]);
    let packed = archive.arg(folder.path()).output().context(BUILD)?;
    anyhow::ensure!(packed.status.success(), "sconce archive: {}", String::from_utf8_lossy(&packed.stderr));
    let config = ServerConfig { default_workers_per_model: Some(1), ..ServerConfig::default() };
    let loader = Loader::new(
        Runtime::start(Accelerators::None, 1)?,
        Catalogue::new(vec![programs.join("libecho.so")]),
        Canary::new(programs.join("sconce"), None),
        LibraryStore::new(folder.path())?,
        Metrics::new(&config.metrics)?,
        &config,
        folder.path(),
    );
    let registry = Arc::new(Registry::new(loader, config, 1));
    let file = format!("{MODEL}.mar");
    let package = Arc::new(Package::open(&folder.path().join(&file), folder.path())?);
    let endpoint = registry.register(NewModel { name: None, url: file, package, origin: Origin::Startup })?;
    registry.load_all(&[endpoint]);
    Ok((registry, folder))
}

const BUILD: &str =
    "the server isn't there: `cargo build --release -p sconce` and `cargo build --release -p echo` make it";

/// Where cargo puts what it builds for release: this program lies in `deps` below it.
fn programs() -> Result<PathBuf> {
    let program = std::env::current_exe().context("this program doesn't know where it lies")?;
    let folder = program.parent().and_then(Path::parent).context("this program lies in no folder")?;
    anyhow::ensure!(folder.join("sconce").exists() && folder.join("libecho.so").exists(), BUILD);
    Ok(folder.to_owned())
}

criterion_group!(benches, swaps);
criterion_main!(benches);
