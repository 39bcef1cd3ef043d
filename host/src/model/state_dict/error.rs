//! Why a file's weights can't be read, and what to do about it.

/// What was wrong; the path is said by whoever knows it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateDictError {
    #[error("{reason}")]
    Io { reason: String },

    #[error(
        "nothing that torch.save, torch.jit.save or safetensors writes begins with \"{start}\"; in Python, save TorchScript with torch.jit.save, or weights with torch.save(model.state_dict(), FILE)"
    )]
    NotTorch { start: String },

    #[error(
        "it is in the tar format of PyTorch before 0.1.10, which is no longer read; load it in Python and save it again with torch.save(model.state_dict(), FILE)"
    )]
    Tar,

    #[error(
        "it holds a program of torch.export that isn't compiled; in Python, compile it with torch._inductor.aoti_compile_and_package(torch.export.load(FILE), package_path=\"model.pt2\")"
    )]
    Exported,

    #[error(
        "it holds an object of Python's {class}, not a state dict, and Python is never run here; save the weights with torch.save(model.state_dict(), FILE), or code and weights with torch.jit.script(model).save(FILE)"
    )]
    Object { class: String },

    #[error(
        "it holds a dict without tensors (its entries: {entries}), so no state dict; save torch.save(model.state_dict(), FILE), or a checkpoint that holds the state dict under \"state_dict\", \"model_state_dict\" or \"model\""
    )]
    NoTensors { entries: String },

    #[error("its entry \"{entry}\" has elements of type {dtype}, which can't be served; convert it in Python")]
    ElementType { entry: String, dtype: String },

    #[error("its entry \"{entry}\" is damaged: {reason}")]
    Entry { entry: String, reason: String },

    #[error(
        "it claims {claimed} bytes of {what}, and a file of its size may have {limit}; save it again, without compression and with every tensor cloned"
    )]
    TooLarge { what: &'static str, claimed: u64, limit: u64 },

    #[error(
        "{reason}; the file is damaged, or holds more than plain tensors, numbers, text, and lists and dicts of them: save it again with torch.save(model.state_dict(), FILE)"
    )]
    Damaged { reason: String },
}

// === impl StateDictError ===

impl StateDictError {
    pub(super) fn damaged(reason: &(impl ToString + ?Sized)) -> Self {
        Self::Damaged { reason: reason.to_string() }
    }
}

impl From<std::io::Error> for StateDictError {
    fn from(error: std::io::Error) -> Self {
        Self::Io { reason: error.to_string() }
    }
}
