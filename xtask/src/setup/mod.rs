//! `setup`: libtorch in the user's cache, and the link `.libtorch` that the build follows.
//!
//! The road: a libtorch of the user's own ends it early; else `tools` sees what is missing,
//! `cache` knows where it goes and takes the lock, `wheels` downloads, `layout` unpacks.

use std::env;

use anyhow::Result;

use crate::workspace;

mod cache;
mod layout;
mod needed;
mod own;
mod platform;
mod record;
mod tools;
mod unpack;
mod wheels;

use cache::Cache;
use own::OwnLibtorch;
use platform::Arch;

/// The version that the tch of this workspace pairs with.
pub(crate) const LIBTORCH: &str = "2.11.0";

/// The name of the link in the repository, as .cargo/config.toml has it.
const LINK: &str = ".libtorch";

/// Makes libtorch available to every later cargo call; quick when it already is.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    if let Some(own) = OwnLibtorch::from_environment(env::var_os("LIBTORCH"), &root) {
        own.check()?;
        println!("libtorch {LIBTORCH}: using your LIBTORCH, {}", own.folder().display());
        return tools::for_build();
    }

    let arch = Arch::of_this_machine()?;
    let cache = Cache::locate(arch, |name| env::var_os(name))?;
    if cache.is_complete() {
        tools::for_build()?;
    } else {
        fetch(&cache, arch)?;
    }
    cache.link_to(&root.join(LINK))?;
    println!("libtorch {LIBTORCH}: ready in {} ({LINK} points there)", cache.folder().display());
    Ok(())
}

fn fetch(cache: &Cache, arch: Arch) -> Result<()> {
    println!(
        "Sconce needs libtorch {LIBTORCH} ({arch}); it is kept once for all your clones, in {}",
        cache.folder().display()
    );
    let python = tools::for_download()?;
    let _lock = cache.lock()?;
    if cache.is_complete() {
        return Ok(());
    }
    cache.clear_leftovers()?;
    cache.require_space(wheels::TORCH.find(&cache.wheels()).is_some())?;
    layout::make(cache, arch, &python)
}
