//! Small libraries in C for the tests: what a Rust plugin does only with effort takes a line there.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Makes `lib<name>.so` of a C source in a folder.
pub(super) fn compile(folder: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let (text, library) = (folder.join(format!("{name}.c")), folder.join(format!("lib{name}.so")));
    std::fs::write(&text, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(&library).arg(&text).args(flags);
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
