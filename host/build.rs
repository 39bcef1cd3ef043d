//! Tells the host its target, compiles the shim, and makes the binaries find libtorch where it was found now.

use std::env;
use std::path::Path;
use std::path::PathBuf;

/// The files of the shim.
const SHIM: [&str; 10] = [
    "shim.h",
    "shim.cpp",
    "aoti.cpp",
    "channels_last.cpp",
    "device.cpp",
    "forms.cpp",
    "fused.cpp",
    "gradients.cpp",
    "operators.cpp",
    "profile.cpp",
];

fn main() {
    for file in SHIM {
        println!("cargo:rerun-if-changed=src/model/torch/{file}");
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo:rustc-env=SCONCE_TARGET={}", env::var("TARGET").unwrap_or_default());
    if env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return;
    }
    // torch-sys says where it found the libraries; the headers stand beside them unless LIBTORCH_INCLUDE says otherwise.
    let Some(libraries) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        println!("cargo:warning=torch-sys named no libtorch folder; run `cargo xtask setup`, or set LIBTORCH");
        return;
    };
    let root = env::var_os("LIBTORCH_INCLUDE")
        .map(PathBuf::from)
        .or_else(|| libraries.parent().map(Path::to_owned))
        .unwrap_or_default();
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        // As libtorch itself is built: without it, classes of its headers have members that its own code doesn't know.
        .define("NDEBUG", None)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .files(SHIM.iter().filter(|file| file.ends_with(".cpp")).map(|file| format!("src/model/torch/{file}")))
        .compile("sconce_shim");
    // The shim comes after torch-sys's own archive on the link line, so the libraries are named once more behind it.
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-search=native={}", libraries.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
}
