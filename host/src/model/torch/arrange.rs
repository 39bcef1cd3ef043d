//! A call's values as the row of tensors that compiled code takes.

use std::iter::Peekable;
use std::vec::IntoIter;

use handler_sdk::abi::raw::RawEventKind;
use tch::Tensor;

use super::shim::Input;
use crate::model::package::Spec;

/// The tensors in the order of the code's inputs.
pub(super) struct Arranged(pub(super) Vec<Tensor>);

/// What a call was given at one place.
enum Given {
    Tensor(Tensor),
    List(Vec<Given>),
    Dict(Vec<(String, Given)>),
}

/// Puts what was given at its place; the error names the place.
pub(super) fn arrange(inputs: Vec<Input>, parameters: &[(String, Spec)]) -> Result<Arranged, String> {
    let mut steps = inputs.into_iter().peekable();
    let mut given = Vec::new();
    while steps.peek().is_some() {
        given.push(read(&mut steps)?.1);
    }
    if given.len() != parameters.len() {
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.0.as_str()).collect();
        return Err(format!(
            "the model takes {} inputs ({}), and {} came",
            parameters.len(),
            names.join(", "),
            given.len()
        ));
    }
    let mut tensors = Vec::new();
    for (given, (name, spec)) in given.into_iter().zip(parameters) {
        place(given, spec, name, &mut tensors)?;
    }
    Ok(Arranged(tensors))
}

fn read(steps: &mut Peekable<IntoIter<Input>>) -> Result<(String, Given), String> {
    const BUG: &str = "the inputs of the model are out of order; this is a bug";
    let step = steps.next().ok_or(BUG)?;
    let mut inner = || {
        let mut items = Vec::new();
        while steps.peek().is_some_and(|next| next.kind != RawEventKind::END) {
            items.push(read(steps)?);
        }
        steps.next().ok_or(BUG)?;
        Ok::<_, String>(items)
    };
    let given = match step.kind {
        RawEventKind::TENSOR => Given::Tensor(step.tensor.ok_or(BUG)?),
        RawEventKind::BEGIN_LIST => Given::List(inner()?.into_iter().map(|item| item.1).collect()),
        RawEventKind::BEGIN_DICT => Given::Dict(inner()?),
        _ => return Err(BUG.to_owned()),
    };
    Ok((step.name, given))
}

fn place(given: Given, spec: &Spec, name: &str, tensors: &mut Vec<Tensor>) -> Result<(), String> {
    match (given, spec) {
        (Given::Tensor(tensor), Spec::Tensor) => tensors.push(tensor),
        // A batch may come as a list, as it may to TorchScript.
        (Given::List(items), Spec::Tensor) => tensors.push(stack(items, name)?),
        (Given::List(items), Spec::List(specs)) if items.len() == specs.len() => {
            for (index, (item, spec)) in items.into_iter().zip(specs).enumerate() {
                place(item, spec, &format!("{name}[{index}]"), tensors)?;
            }
        }
        (Given::Dict(mut entries), Spec::Dict(specs)) if entries.len() == specs.len() => {
            for (key, spec) in specs {
                let found = entries.iter().position(|entry| entry.0 == *key);
                let found = found.ok_or_else(|| format!("{name} has no entry {key:?}, and the model takes one"))?;
                place(entries.swap_remove(found).1, spec, &format!("{name}[{key:?}]"), tensors)?;
            }
        }
        (given, spec) => return Err(format!("{name} is {}, and the model takes {}", given.describe(), describe(spec))),
    }
    Ok(())
}

fn stack(items: Vec<Given>, name: &str) -> Result<Tensor, String> {
    let items = items.into_iter().map(|item| match item {
        Given::Tensor(tensor) => Ok(tensor),
        other => Err(format!("{name} is a list that holds {}, and the model takes one tensor", other.describe())),
    });
    let items: Vec<Tensor> = items.collect::<Result<_, _>>()?;
    Tensor::f_stack(&items, 0).map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        format!("{name} is a list, the model takes one tensor, and these can't be put together: {text}")
    })
}

fn describe(spec: &Spec) -> String {
    match spec {
        Spec::Tensor => "a tensor".to_owned(),
        Spec::List(items) => format!("a list of {}", items.len()),
        Spec::Dict(entries) => {
            let keys: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
            format!("a dict of {}", keys.join(", "))
        }
    }
}

// === impl Given ===

impl Given {
    fn describe(&self) -> String {
        match self {
            Self::Tensor(_) => "a tensor".to_owned(),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Dict(entries) => {
                let keys: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
                format!("a dict of {}", keys.join(", "))
            }
        }
    }
}
