//! Whether this machine can run what was compiled for another.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use super::PackageError;

/// What the processor can do, in the kernel's words; empty where the kernel doesn't say.
pub(super) fn flags() -> &'static BTreeSet<String> {
    static FLAGS: OnceLock<BTreeSet<String>> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("flags")).and_then(|line| line.split_once(':'));
        line.map(|(_, flags)| flags.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    })
}

/// Compares what a package says of the machine that it is for with this one.
///
/// It says less than there is to know: by default the code is compiled with all that the machine had, and only the
/// width of its vectors is written down. What gets past this, a canary meets first.
pub(super) fn judge(
    platform: Option<&str>,
    machine: Option<&str>,
    instructions: Option<&str>,
    flags: &BTreeSet<String>,
) -> Result<(), PackageError> {
    let here = std::env::consts::ARCH;
    let (platform, machine) = (platform.unwrap_or("linux"), machine.unwrap_or(here));
    if (platform, machine) != ("linux", here) {
        let (made_for, here) = (format!("{machine} on {platform}"), format!("{here} on linux"));
        return Err(PackageError::OtherMachine { made_for, here });
    }
    let instructions = instructions.unwrap_or_default();
    let needed = instructions.split_whitespace().flat_map(|name| flags_of(&name.to_lowercase()));
    let missing: BTreeSet<String> = needed.filter(|flag| !flags.contains(flag)).collect();
    if missing.is_empty() || flags.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().collect();
    Err(PackageError::Processor { made_for: instructions.to_lowercase(), missing: missing.join(", ") })
}

/// PyTorch's name of an instruction set, as the kernel's flags of an x86 processor; none for what others have.
fn flags_of(name: &str) -> Vec<String> {
    let flags: &[&str] = match name {
        "avx2" => &["avx2", "fma", "f16c"],
        "avx512" => &["avx512f", "avx512dq", "avx512vl", "avx512bw", "fma"],
        name if name.starts_with("avx") || name.starts_with("amx") => return vec![name.to_owned()],
        _ => &[],
    };
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_processor_is_held_against_the_instructions() {
        let old = flags("sse4_2 avx avx2 fma f16c");
        let new = flags("avx2 fma f16c avx512f avx512dq avx512vl avx512bw avx512_vnni amx_tile");
        let judge =
            |instructions, flags| judge(None, None, Some(instructions), flags).map_err(|error| error.to_string());
        for fine in ["AVX2", "INVALID_VEC_ISA", ""] {
            judge(fine, &old).unwrap();
        }
        judge("AVX512 AVX512_VNNI AMX_TILE", &new).unwrap();
        let error = judge("AVX512 AVX512_VNNI", &old).unwrap_err();
        for part in
            ["avx512 avx512_vnni", "this one has no avx512_vnni, avx512bw, avx512dq", "ATEN_CPU_CAPABILITY=avx2"]
        {
            assert!(error.contains(part), "{error}");
        }
        // A kernel that hides the processor leaves the canary to find out.
        judge("AVX512", &flags("")).unwrap();
    }

    #[test]
    fn another_machine_is_refused() {
        for (platform, machine) in [("darwin", std::env::consts::ARCH), ("linux", "riscv64")] {
            let error = judge(Some(platform), Some(machine), None, &flags("")).unwrap_err().to_string();
            assert!(error.contains(&format!("compiled for {machine} on {platform}, and this machine is")), "{error}");
        }
    }
}
