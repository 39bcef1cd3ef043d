//! How a call's structures of tensors become the row of tensors that compiled code takes, and back: PyTorch's tree specs.

use serde_json::Value;

use super::PackageError;

/// The structure of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model) enum Spec {
    Tensor,
    List(Vec<Spec>),
    Dict(Vec<(String, Spec)>),
}

/// The format that is read: the number at a spec's beginning.
const FORMAT: u64 = 1;

/// Deeper than any model's structures.
const DEEPEST: usize = 32;

// === impl Spec ===

impl Spec {
    /// Reads the JSON that a package holds.
    pub(in crate::model) fn parse(json: &str) -> Result<Self, PackageError> {
        let read: Value = serde_json::from_str(json).map_err(|error| PackageError::damaged(&error))?;
        match read.as_array().map(Vec::as_slice) {
            Some([format, node]) if format.as_u64() == Some(FORMAT) => Self::of(node, DEEPEST),
            _ => Err(PackageError::damaged("the structure of its inputs or outputs is in an unknown format")),
        }
    }

    fn of(node: &Value, depth: usize) -> Result<Self, PackageError> {
        let children = node["children_spec"].as_array();
        let (Some(children), Some(depth)) = (children, depth.checked_sub(1)) else {
            return Err(PackageError::damaged("the structure of its inputs or outputs can't be read"));
        };
        if node["type"].is_null() {
            return Ok(Self::Tensor);
        }
        let children: Vec<Self> = children.iter().map(|child| Self::of(child, depth)).collect::<Result<_, _>>()?;
        // What has keys tells them in its context; all other types are rows.
        let context = node["context"].as_str().and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        let kind = node["type"].as_str().unwrap_or_default().to_lowercase();
        Ok(match context {
            Some(keys) if keys.len() == children.len() && kind.contains("dict") => {
                let keys = keys.into_iter().map(|key| match key {
                    Value::String(text) => text,
                    other => other.to_string(),
                });
                Self::Dict(keys.zip(children).collect())
            }
            _ => Self::List(children),
        })
    }

    /// How many tensors it is made of.
    pub(in crate::model) fn tensors(&self) -> usize {
        match self {
            Self::Tensor => 1,
            Self::List(items) => items.iter().map(Self::tensors).sum(),
            Self::Dict(entries) => entries.iter().map(|entry| entry.1.tensors()).sum(),
        }
    }

    /// The parameters of a call, each with its name, which those that are given by their place don't have.
    pub(in crate::model) fn parameters(self) -> Vec<(String, Self)> {
        let place = |place: usize| format!("input{place}");
        match self {
            Self::List(mut parts) if parts.len() == 2 => match (parts.pop(), parts.pop()) {
                (Some(Self::Dict(named)), Some(Self::List(placed))) => {
                    let placed = placed.into_iter().enumerate().map(|(index, spec)| (place(index), spec));
                    placed.chain(named).collect()
                }
                (Some(Self::List(none)), Some(Self::List(placed))) if none.is_empty() => {
                    placed.into_iter().enumerate().map(|(index, spec)| (place(index), spec)).collect()
                }
                (second, first) => {
                    let parts = first.into_iter().chain(second);
                    parts.enumerate().map(|(index, spec)| (place(index), spec)).collect()
                }
            },
            other => vec![(place(0), other)],
        }
    }

    /// The paths of its tensors, in their order: `input1["a"][0]`.
    pub(in crate::model) fn paths(&self, name: &str, paths: &mut Vec<String>) {
        match self {
            Self::Tensor => paths.push(name.to_owned()),
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.paths(&format!("{name}[{index}]"), paths);
                }
            }
            Self::Dict(entries) => {
                for (key, item) in entries {
                    item.paths(&format!("{name}[{key:?}]"), paths);
                }
            }
        }
    }
}
