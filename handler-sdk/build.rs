//! Tells the crate with what it was compiled: the note of each plugin repeats it.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=HANDLER_SDK_RUSTC={version}");
    for (name, variable) in
        [("HANDLER_SDK_TARGET", "TARGET"), ("HANDLER_SDK_TARGET_FEATURES", "CARGO_CFG_TARGET_FEATURE")]
    {
        println!("cargo:rustc-env={name}={}", env::var(variable).unwrap_or_default());
    }
}
