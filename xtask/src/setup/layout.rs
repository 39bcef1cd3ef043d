//! The folder the build wants, made of what the wheels hold: `lib/`, `include/`, `build-version`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::LIBTORCH;
use super::cache::Cache;
use super::needed::{Wanted, needed_by};
use super::platform::Arch;
use super::tools::Python;
use super::unpack::{Damaged, OpenWheel};
use super::wheels::{TORCH, Wheel};
use crate::progress::Progress;

/// What the build links; everything else in `lib/` is there because one of these asks for it.
const LINKED: [&str; 2] = ["libtorch_cpu.so", "libc10.so"];

/// Downloads, unpacks and publishes. Needs the cache's lock.
pub(crate) fn make(cache: &Cache, arch: Arch, python: &Python) -> Result<()> {
    let result = unpack(cache, arch, python).and_then(|()| cache.publish());
    let Err(error) = result else { return Ok(()) };
    let Some(damaged) = error.downcast_ref::<Damaged>() else {
        return Err(error);
    };
    // Kept, it would fail every time.
    fs::remove_file(&damaged.wheel).with_context(|| format!("{} can't be removed", damaged.wheel.display()))?;
    bail!("{damaged}. It was removed: type the same command again, and it is fetched anew")
}

fn unpack(cache: &Cache, arch: Arch, python: &Python) -> Result<()> {
    let fetch = |wheel: Wheel| -> Result<OpenWheel> { OpenWheel::open(&wheel.fetch(arch, python, &cache.wheels())?) };
    let folder = cache.staging();
    let mut wheels = vec![fetch(TORCH)?];
    unpack_headers(&mut wheels[0], &folder)?;

    let mut wanted = Wanted::default();
    wanted.add(LINKED.map(String::from));
    loop {
        let rest = unpack_libraries(&mut wheels, &mut wanted, &folder.join("lib"))?;
        if rest.is_empty() {
            break;
        }
        for library in rest {
            let wheel = Wheel::with_library(&library).ok_or_else(|| {
                anyhow!(
                    "libtorch needs {library}, which is in none of the packages that setup knows: \
                     please report this, with the processor ({arch})"
                )
            })?;
            let open = fetch(wheel)?;
            if open.library(&library).is_none() {
                bail!("{wheel} has no {library}: please report this, with the processor ({arch})");
            }
            wheels.push(open);
            wanted.again(library);
        }
    }
    fs::write(folder.join("build-version"), format!("{LIBTORCH}\n"))
        .with_context(|| format!("{} can't be written", folder.display()))?;
    link_libtorch(&folder)
}

fn unpack_headers(torch: &mut OpenWheel, folder: &Path) -> Result<()> {
    let headers = torch.below("torch/include/");
    let total = headers.iter().map(|(name, _)| torch.size(name)).sum();
    let mut progress = Progress::start("unpack the headers", Some(total));
    for (name, path) in headers {
        torch.extract(&name, &folder.join("include").join(path), &mut progress)?;
    }
    progress.finish();
    Ok(())
}

/// Unpacks all that is wanted, and all that those want in turn; returns what no wheel had.
fn unpack_libraries(wheels: &mut [OpenWheel], wanted: &mut Wanted, folder: &Path) -> Result<Vec<String>> {
    let mut rest = Vec::new();
    let mut total = 0;
    let mut progress = Progress::start("unpack the libraries", None);
    while let Some(library) = wanted.next() {
        let found = wheels.iter_mut().find_map(|wheel| Some((wheel.library(&library)?, wheel)));
        let Some((name, wheel)) = found else {
            rest.push(library);
            continue;
        };
        total += wheel.size(&name);
        progress.set_total(total);
        let path = folder.join(&library);
        wheel.extract(&name, &path, &mut progress)?;
        wanted.add(needed_by(&path)?);
    }
    progress.finish();
    Ok(rest)
}

/// The wheel's libtorch.so asks for CUDA. This one only names the two that are here; AOTInductor's
/// packages ask for it by name.
fn link_libtorch(folder: &Path) -> Result<()> {
    let lib: PathBuf = folder.join("lib");
    let output = Command::new("cc")
        .current_dir(&lib)
        .args(["-shared", "-o", "libtorch.so", "-Wl,-soname,libtorch.so"])
        .args(["-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed", "-L."])
        .args(LINKED.map(|library| format!("-l:{library}")))
        .args(["-Wl,--allow-shlib-undefined", "-x", "c", "/dev/null"])
        .output()
        .context("cc can't be started")?;
    if !output.status.success() {
        bail!(
            "cc couldn't link {}:\n{}",
            lib.join("libtorch.so").display(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
