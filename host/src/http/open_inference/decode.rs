//! From the body of an inference request to a call of the model.

use axum::body::Bytes;
use handler_sdk::DType;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::elements;
use crate::serving::ModelCall;
use crate::serving::NamedTensor;
use crate::serving::Signature;
use crate::serving::datatype;
use crate::serving::datatype_name;

/// An inference request.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The client's own, to be sent back.
    pub(super) id: Option<String>,
    pub(super) call: ModelCall,
    pub(super) binary: Binary,
}

/// Which outputs are sent as bytes behind the JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Binary {
    /// Those about which nothing is said.
    by_default: bool,
    by_name: Vec<(String, bool)>,
}

/// The JSON of a request.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferenceRequest)]
pub(super) struct Body<'a> {
    /// Sent back with the answer.
    id: Option<String>,
    /// `binary_data_output` says whether outputs are sent as bytes.
    #[serde(default)]
    #[schema(value_type = Option<HashMap<String, Value>>)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = InputTensor)]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    /// `binary_data_size` says how many of the bytes behind the JSON are this tensor's.
    #[serde(default)]
    #[schema(value_type = Option<HashMap<String, Value>>)]
    parameters: Parameters,
    /// The elements, flat or nested as the shape is.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<Value>>)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = RequestedOutput)]
struct Output {
    name: String,
    /// `binary_data` says whether this output is sent as bytes.
    #[serde(default)]
    #[schema(value_type = Option<HashMap<String, Value>>)]
    parameters: Parameters,
}

#[derive(Deserialize, Default)]
#[serde(transparent)]
struct Parameters(Option<Map<String, Value>>);

/// Of the extension for tensors in shared memory.
const SHARED_MEMORY: &str = "shared_memory_region";

/// Every input is looked for among all others, and every output that is asked for is written: a short request must not cost the more.
const MOST_TENSORS: usize = 1024;

/// Reads a request whose JSON is that long, with binary tensors behind it; without a length all of it is JSON.
///
/// The error is a sentence for the client.
pub(super) fn decode(body: &Bytes, json_length: Option<usize>) -> Result<Decoded, String> {
    let length = json_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(format!(
            "the header Inference-Header-Content-Length is {length}, and the body has only {} bytes",
            body.len()
        ));
    }
    let json: Body<'_> = serde_json::from_slice(&body[..length])
        .map_err(|error| format!("the body is no inference request of the Open Inference Protocol: {error}"))?;
    let outputs = json.outputs.unwrap_or_default();
    for (what, count) in [("inputs", json.inputs.len()), ("outputs", outputs.len())] {
        if count > MOST_TENSORS {
            return Err(format!("the request has {count} {what}: more than {MOST_TENSORS} are not taken"));
        }
    }
    let mut behind = json_length.map(|length| body.slice(length..));
    let mut inputs = Vec::new();
    for input in &json.inputs {
        let tensor = tensor(input, &mut behind).map_err(|error| format!("the input {:?}: {error}", input.name))?;
        inputs.push(tensor);
    }
    if let Some(rest) = behind.filter(|rest| !rest.is_empty()) {
        return Err(format!("{} bytes of the body belong to no input: their binary_data_size says so", rest.len()));
    }
    for (index, output) in outputs.iter().enumerate() {
        if outputs[..index].iter().any(|other| other.name == output.name) {
            return Err(format!("the output {:?} is asked for twice", output.name));
        }
        for (parameter, extension) in [(SHARED_MEMORY, "shared memory"), ("classification", "classification")] {
            if output.parameters.get(parameter).is_some() {
                return Err(format!("the output {:?}: the extension for {extension} is not here", output.name));
            }
        }
    }
    let by_name =
        outputs.iter().filter_map(|output| Some((output.name.clone(), output.parameters.get("binary_data")?)));
    let by_name = by_name.map(|(name, value)| match value.as_bool() {
        Some(binary) => Ok((name, binary)),
        None => Err(format!("the output {name:?}: binary_data is {value}, and must be true or false")),
    });
    let by_default = match json.parameters.get("binary_data_output") {
        None => false,
        Some(value) => {
            value.as_bool().ok_or_else(|| format!("binary_data_output is {value}, and must be true or false"))?
        }
    };
    Ok(Decoded {
        id: json.id,
        binary: Binary { by_default, by_name: by_name.collect::<Result<_, _>>()? },
        call: ModelCall { inputs, outputs: outputs.into_iter().map(|output| output.name).collect() },
    })
}

/// Reads a request without JSON: all of it is the one input that the archive declares.
pub(super) fn raw(body: Bytes, signature: &Signature) -> Result<Decoded, String> {
    let inputs = if signature.declares_inputs() { signature.inputs() } else { Vec::new() };
    let [input] = &inputs[..] else {
        return Err(format!(
            "a body without JSON is for a model that declares one input in its model-config.yaml, and this one declares {}",
            inputs.len()
        ));
    };
    let (datatype, mut shape) = input.spec.clone().unwrap_or((DType::U8, vec![-1]));
    let open: Vec<usize> = (0..shape.len()).filter(|&place| shape[place] == -1).collect();
    let known = shape.iter().filter(|length| **length != -1);
    let size = known.fold(datatype.size(), |size, length| size.saturating_mul(usize::try_from(*length).unwrap_or(0)));
    let wrong = |wanted: String| {
        Err(format!(
            "the input {:?} is {} of shape {shape:?}, {wanted}, and the body has {} bytes",
            input.name,
            datatype_name(datatype),
            body.len()
        ))
    };
    match open[..] {
        [] if body.len() == size => {}
        [] => return wrong(format!("which is {size} bytes")),
        [place] if size > 0 && body.len().is_multiple_of(size) => {
            shape[place] = i64::try_from(body.len() / size).map_err(|error| error.to_string())?;
        }
        [_] => return wrong(format!("which is a multiple of {size} bytes")),
        _ => return wrong("which has more than one dimension of any length: send its shape in JSON".to_owned()),
    }
    let bytes = normal(datatype, body);
    let tensor = NamedTensor { name: input.name.clone(), datatype, shape, bytes };
    Ok(Decoded {
        id: None,
        call: ModelCall { inputs: vec![tensor], outputs: Vec::new() },
        binary: Binary { by_default: true, by_name: Vec::new() },
    })
}

fn tensor(input: &Input<'_>, behind: &mut Option<Bytes>) -> Result<NamedTensor, String> {
    let datatype = datatype(&input.datatype)?;
    let count = elements_of(&input.shape, datatype)
        .ok_or_else(|| format!("{:?} is no shape: a length is negative or too large", input.shape))?;
    if input.parameters.get(SHARED_MEMORY).is_some() {
        return Err("the extension for shared memory is not here: send the data itself".to_owned());
    }
    let about = |reason: String| format!("{} of shape {:?}: {reason}", input.datatype, input.shape);
    let bytes = match (input.data, input.parameters.get("binary_data_size")) {
        (Some(_), Some(_)) => Err("it has data as well as binary_data_size: send one of them".to_owned()),
        (None, None) => Err("it has neither data nor binary_data_size".to_owned()),
        (Some(_), None) if datatype == DType::BF16 => {
            Err("BF16 has no form in JSON: send it as binary data, with binary_data_size".to_owned())
        }
        (Some(data), None) => elements::read(data.get(), datatype, count).map(Bytes::from),
        (None, Some(size)) => binary(size, count * datatype.size(), behind).map(|bytes| normal(datatype, bytes)),
    }
    .map_err(about)?;
    Ok(NamedTensor { name: input.name.clone(), datatype, shape: input.shape.clone(), bytes })
}

/// How many elements a tensor of that shape has; `None` where it can't be, even if there is nothing in it: steps from row to row are still computed.
fn elements_of(shape: &[i64], datatype: DType) -> Option<usize> {
    let steps = shape.iter().try_fold(datatype.size(), |steps, &length| {
        steps.checked_mul(usize::try_from(length).ok()?.max(1)).filter(|&steps| isize::try_from(steps).is_ok())
    })?;
    Some(if shape.contains(&0) { 0 } else { steps / datatype.size() })
}

/// The bytes of one input, from the beginning of what is left behind the JSON.
fn binary(size: &Value, wanted: usize, behind: &mut Option<Bytes>) -> Result<Bytes, String> {
    let Some(behind) = behind else {
        return Err(
            "it has binary_data_size, and the request has no header Inference-Header-Content-Length to say where the JSON ends"
                .to_owned(),
        );
    };
    if size.as_u64() != Some(wanted as u64) {
        return Err(format!("its binary_data_size is {size}, and such a tensor has {wanted} bytes"));
    }
    if behind.len() < wanted {
        return Err(format!("its {wanted} bytes are not all there: the body has {} left", behind.len()));
    }
    Ok(behind.split_to(wanted))
}

/// libtorch's truth values are 0 and 1, and nothing else.
fn normal(datatype: DType, bytes: Bytes) -> Bytes {
    if datatype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return bytes.iter().map(|&byte| u8::from(byte != 0)).collect();
    }
    bytes
}

// === impl Binary ===

impl Binary {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.by_name.iter().find(|row| row.0 == name).map_or(self.by_default, |row| row.1)
    }
}

// === impl Parameters ===

impl Parameters {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name).filter(|value| !value.is_null())
    }
}

#[cfg(test)]
mod tests;
