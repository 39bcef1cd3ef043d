//! What TorchScript says of a method: its parameters, and how many tensors it gives.

/// A method as its code declares it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// In the order of the call.
    pub parameters: Vec<Parameter>,
    /// How many tensors it gives; `None` where the code doesn't say, as for a dict.
    pub outputs: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub kind: ParameterKind,
    /// Whether a call may leave it out, with those behind it.
    pub is_optional: bool,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    Tensor,
    /// A list or tuple of tensors.
    List,
    /// Tensors by name.
    Dict,
    /// Something that is made of no tensors, as a number.
    Other,
}
