//! What a model takes and gives, by name: what the archive declares, or else what the model's code says.

use bytes::Bytes;
use handler_sdk::DType;
use handler_sdk::Error as HandlerError;

use super::NamedTensor;
use crate::archive::Declared;
use crate::archive::TensorSpec;
use crate::archive::datatype_name;
use crate::model::Parameter;
use crate::model::ParameterKind;
use crate::model::Schema;

/// How a model is called without its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    schema: Schema,
    declared: Declared,
}

/// A tensor as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTensor {
    pub name: String,
    /// Datatype and shape, which only the archive's declaration tells.
    pub spec: Option<(DType, Vec<i64>)>,
}

/// How tensors are put into a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arranged {
    /// Each is a parameter.
    Each,
    /// All are one list.
    List,
    /// All are one dict, under their names.
    Dict,
}

/// A tensor that a model gave, with its key where it was in a dict.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) key: Option<String>,
    pub(super) datatype: DType,
    pub(super) shape: Vec<i64>,
    pub(super) bytes: Bytes,
}

// === impl Signature ===

impl Signature {
    pub(super) fn new(schema: Schema, declared: Declared) -> Self {
        Self { schema, declared }
    }

    /// Whether the archive says what the model takes.
    pub fn declares_inputs(&self) -> bool {
        self.declared.inputs.is_some()
    }

    /// The model's inputs; empty where a parameter takes any number of tensors and nothing is declared.
    pub fn inputs(&self) -> Vec<KnownTensor> {
        match &self.declared.inputs {
            Some(specs) => specs.iter().map(KnownTensor::declared).collect(),
            None => {
                let tensors = self.schema.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Tensor);
                tensors.map(|parameter| KnownTensor::named(parameter.name.clone())).collect()
            }
        }
    }

    /// The model's outputs; empty where neither the archive nor the code says how many there are.
    pub fn outputs(&self) -> Vec<KnownTensor> {
        match &self.declared.outputs {
            Some(specs) => specs.iter().map(KnownTensor::declared).collect(),
            None => (0..self.schema.outputs.unwrap_or(0)).map(|index| KnownTensor::named(output_name(index))).collect(),
        }
    }

    /// Checks a request's inputs, and tells in which order and form they go into the call.
    pub(super) fn arrange(&self, inputs: &[NamedTensor]) -> Result<(Arranged, Vec<usize>), HandlerError> {
        if let Some(twice) = inputs.iter().enumerate().find_map(|(index, input)| {
            inputs[..index].iter().any(|other| other.name == input.name).then_some(&input.name)
        }) {
            return Err(HandlerError::bad_request(format!("the input {twice:?} came twice")));
        }
        let order = match &self.declared.inputs {
            Some(specs) => check(inputs, specs)?,
            None => (0..inputs.len()).collect(),
        };
        let names: Vec<&str> = order.iter().map(|&index| inputs[index].name.as_str()).collect();
        let (arranged, places) = self.places(&names)?;
        Ok((arranged, places.into_iter().map(|place| order[place]).collect()))
    }

    /// For each parameter, which of the names it takes.
    fn places(&self, names: &[&str]) -> Result<(Arranged, Vec<usize>), HandlerError> {
        let in_order = || (0..names.len()).collect::<Vec<_>>();
        let parameters = &self.schema.parameters;
        match parameters.iter().filter(|parameter| !parameter.is_optional).collect::<Vec<_>>()[..] {
            [Parameter { kind: ParameterKind::Dict, .. }] => return Ok((Arranged::Dict, in_order())),
            [Parameter { kind: ParameterKind::List, .. }] => return Ok((Arranged::List, in_order())),
            _ => {}
        }
        let is_parameter = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        let order = if names.iter().any(|name| is_parameter(name)) {
            if let Some(unknown) = names.iter().find(|name| !is_parameter(name)) {
                let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
                return Err(HandlerError::bad_request(format!(
                    "the model has no input {unknown:?}: its inputs are {known:?}"
                )));
            }
            self.by_name(names)?
        } else {
            by_index(names).unwrap_or_else(in_order)
        };
        let required = parameters.iter().filter(|parameter| !parameter.is_optional).count();
        if order.len() < required || order.len() > parameters.len() {
            let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            return Err(HandlerError::bad_request(format!(
                "the request has {} inputs, and the model takes {}: {known:?}",
                order.len(),
                if required == parameters.len() {
                    format!("{required}")
                } else {
                    format!("{required} to {}", known.len())
                },
            )));
        }
        match parameters[..order.len()].iter().find(|parameter| parameter.kind != ParameterKind::Tensor) {
            Some(parameter) => Err(HandlerError::bad_request(format!(
                "the model's parameter {:?} is no tensor, so it can't be called through this protocol: write a handler, or export the model without that parameter",
                parameter.name
            ))),
            None => Ok((Arranged::Each, order)),
        }
    }

    /// Every parameter up to the last one that is given; those behind it keep their defaults.
    fn by_name(&self, names: &[&str]) -> Result<Vec<usize>, HandlerError> {
        let place = |parameter: &Parameter| names.iter().position(|name| *name == parameter.name);
        let parameters = &self.schema.parameters;
        let given = parameters.iter().rposition(|parameter| !parameter.is_optional || place(parameter).is_some());
        parameters[..given.map_or(0, |last| last + 1)]
            .iter()
            .map(|parameter| {
                place(parameter).ok_or_else(|| {
                    HandlerError::bad_request(format!(
                        "the input {:?} is missing: the model takes it, and the request has {names:?}",
                        parameter.name
                    ))
                })
            })
            .collect()
    }

    /// Gives names to what a model gave, and picks what is wanted of it.
    pub(super) fn name_outputs(&self, leaves: Vec<Leaf>, wanted: &[String]) -> Result<Vec<NamedTensor>, HandlerError> {
        let declared = self.declared.outputs.as_deref().unwrap_or_default();
        if declared.len() > leaves.len() {
            return Err(HandlerError::new(format!(
                "the model gave {} tensors, and model-config.yaml declares {} outputs",
                leaves.len(),
                declared.len()
            )));
        }
        let mut outputs: Vec<NamedTensor> = Vec::new();
        for (index, leaf) in leaves.into_iter().enumerate() {
            let unnamed = || declared.get(index).map_or_else(|| output_name(index), |spec| spec.name.clone());
            let mut name = leaf.key.unwrap_or_else(unnamed);
            if outputs.iter().any(|other| other.name == name) {
                // As in a list of dicts that have the same keys.
                name = format!("{name}__{index}");
            }
            outputs.push(NamedTensor { name, datatype: leaf.datatype, shape: leaf.shape, bytes: leaf.bytes });
        }
        if wanted.is_empty() {
            return Ok(outputs);
        }
        wanted
            .iter()
            .map(|name| {
                outputs.iter().find(|output| output.name == *name).cloned().ok_or_else(|| {
                    let given: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                    HandlerError::bad_request(format!("the model gives no output {name:?}: its outputs are {given:?}"))
                })
            })
            .collect()
    }
}

/// Holds a request's inputs against the declared ones, and gives their places in the declared order.
fn check(inputs: &[NamedTensor], specs: &[TensorSpec]) -> Result<Vec<usize>, HandlerError> {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    if let Some(unknown) = inputs.iter().find(|input| !names.contains(&input.name.as_str())) {
        return Err(HandlerError::bad_request(format!(
            "the model has no input {:?}: its inputs are {names:?}",
            unknown.name
        )));
    }
    specs
        .iter()
        .map(|spec| {
            let place = inputs.iter().position(|input| input.name == spec.name).ok_or_else(|| {
                HandlerError::bad_request(format!(
                    "the input {:?} is missing: the model's inputs are {names:?}",
                    spec.name
                ))
            })?;
            let input = &inputs[place];
            let same_length = input.shape.len() == spec.shape.len();
            let fits = same_length
                && input.shape.iter().zip(&spec.shape).all(|(length, wanted)| *wanted == -1 || length == wanted);
            if input.datatype == spec.datatype && fits {
                return Ok(place);
            }
            Err(HandlerError::bad_request(format!(
                "the input {:?} is {} of shape {:?}, and the model takes {} of shape {:?}{}",
                spec.name,
                datatype_name(input.datatype),
                input.shape,
                datatype_name(spec.datatype),
                spec.shape,
                if spec.shape.contains(&-1) { ", where -1 is any length" } else { "" },
            )))
        })
        .collect()
}

/// The places of names that end in their index, as `INPUT__0` and `INPUT__1`; `None` where they aren't all of that kind.
fn by_index(names: &[&str]) -> Option<Vec<usize>> {
    let index = |name: &str| name.rsplit_once("__")?.1.parse::<usize>().ok();
    let indices: Vec<usize> = names.iter().map(|name| index(name)).collect::<Option<_>>()?;
    (0..names.len()).map(|wanted| indices.iter().position(|&index| index == wanted)).collect()
}

/// Of what a model gives without a name.
fn output_name(index: usize) -> String {
    format!("OUTPUT__{index}")
}

// === impl KnownTensor ===

impl KnownTensor {
    fn named(name: String) -> Self {
        Self { name, spec: None }
    }

    fn declared(spec: &TensorSpec) -> Self {
        Self { name: spec.name.clone(), spec: Some((spec.datatype, spec.shape.clone())) }
    }
}

#[cfg(test)]
mod tests;
