//! Why a package can't be served, and what to do about it.

/// What was wrong; the path is said by whoever knows it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PackageError {
    #[error(
        "{reason}; the file is damaged, or no AOTInductor package: make it again with torch._inductor.aoti_compile_and_package"
    )]
    Damaged { reason: String },

    #[error("it holds the models {names}, and one can be served: package one alone, or name it \"model\"")]
    Several { names: String },

    #[error(
        "it holds source code without a compiled library: compile it with torch._inductor.aoti_compile_and_package, without package_cpp_only"
    )]
    NotCompiled,

    #[error(
        "its compiled code keeps its weights in another file: compile it with the defaults of package_constants_in_so and package_constants_on_disk_format"
    )]
    WeightsElsewhere,

    #[error(
        "it doesn't say what its compiled code takes ({reason}), and a wrong shape would crash the server: compile it with torch {version}'s torch._inductor.aoti_compile_and_package, and keep all of its files",
        version = handler_sdk::abi::note::LIBTORCH_VERSION
    )]
    Inputs { reason: String },

    #[error("it was compiled for {made_for}, and this machine is {here}: compile it on a machine of this kind")]
    OtherMachine { made_for: String, here: String },

    #[error(
        "it was compiled for processors with {made_for}, and this one has no {missing}: compile it on a machine like this one, or with ATEN_CPU_CAPABILITY=avx2 in the environment"
    )]
    Processor { made_for: String, missing: String },

    #[error("it was compiled for the device {made_for}, and is to be served on {wanted}: {remedy}")]
    Device { made_for: String, wanted: String, remedy: &'static str },

    #[error("can't unpack it in {folder}: {reason}; set TMPDIR to a folder with room for it")]
    Unpack { folder: String, reason: String },
}

// === impl PackageError ===

impl PackageError {
    pub(super) fn damaged(reason: &(impl ToString + ?Sized)) -> Self {
        Self::Damaged { reason: reason.to_string() }
    }

    pub(super) fn inputs(reason: impl Into<String>) -> Self {
        Self::Inputs { reason: reason.into() }
    }
}
