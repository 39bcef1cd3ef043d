//! Makes the crate's own tests find libtorch where it was found now; inside a server libtorch is loaded already.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_TCH").is_none() {
        return;
    }
    match env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) {
        Some(libraries) => println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display()),
        None => {
            println!("cargo:warning=torch-sys named no libtorch folder; run `cargo xtask setup`, or set LIBTORCH");
        }
    }
}
