//! From what a model gives to the body of an answer.

use serde::Serialize;
use utoipa::ToSchema;

use super::decode::Binary;
use super::elements::Elements;
use crate::serving::NamedTensor;
use crate::serving::datatype_name;

/// What an answer begins with.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = InferenceResponseHead)]
pub(super) struct Head<'a> {
    pub(super) model_name: &'a str,
    pub(super) model_version: &'a str,
    pub(super) id: &'a str,
}

/// An answer's body.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) body: Vec<u8>,
    /// How much of it is JSON, where binary tensors follow.
    pub(super) json_length: Option<usize>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceResponse)]
pub(super) struct Answer<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutputTensor)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    #[schema(value_type = Vec<i64>)]
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameters: Option<Parameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The elements, flat; where they aren't here, their bytes follow the JSON.
    #[schema(value_type = Vec<Value>, required = false)]
    data: Option<Elements<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutputTensorParameters)]
struct Parameters {
    binary_data_size: usize,
}

/// Writes the outputs, each as JSON or behind it; the error is a sentence for the client.
pub(super) fn encode(head: &Head<'_>, outputs: &[NamedTensor], binary: &Binary) -> Result<Encoded, String> {
    let mut behind: Vec<&NamedTensor> = Vec::new();
    let mut written = Vec::new();
    for output in outputs {
        let is_binary = binary.wants(&output.name);
        if is_binary {
            behind.push(output);
        } else if output.datatype == handler_sdk::DType::BF16 {
            return Err(format!(
                "the output {:?} is BF16, which has no form in JSON: ask for it with binary_data, or for all with binary_data_output",
                output.name
            ));
        }
        written.push(Output {
            name: &output.name,
            datatype: datatype_name(output.datatype),
            shape: &output.shape,
            parameters: is_binary.then_some(Parameters { binary_data_size: output.bytes.len() }),
            data: (!is_binary).then_some(Elements { datatype: output.datatype, bytes: &output.bytes }),
        });
    }
    let mut body = serde_json::to_vec(&Answer { head: *head, outputs: written }).map_err(|error| error.to_string())?;
    let json_length = (!behind.is_empty()).then_some(body.len());
    behind.iter().for_each(|output| body.extend_from_slice(&output.bytes));
    Ok(Encoded { body, json_length })
}

#[cfg(test)]
mod tests {
    use handler_sdk::DType;

    use super::super::decode::decode;
    use super::*;

    const HEAD: Head<'_> = Head { model_name: "m", model_version: "1.0", id: "7" };

    fn tensor(name: &str, datatype: DType, shape: &[i64], bytes: &[u8]) -> NamedTensor {
        NamedTensor { name: name.to_owned(), datatype, shape: shape.to_vec(), bytes: bytes.to_vec().into() }
    }

    fn wanted(request: &str) -> Binary {
        decode(&request.to_owned().into(), None).unwrap().binary
    }

    #[test]
    fn outputs_are_json_unless_binary_is_wanted() {
        let outputs = [
            tensor("a", DType::F32, &[1], &1.5_f32.to_le_bytes()),
            tensor("b", DType::I16, &[1, 2], &[1, 0, 255, 255]),
        ];
        let encoded = encode(&HEAD, &outputs, &Binary::default()).unwrap();
        assert_eq!(encoded.json_length, None);
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            r#"{"model_name":"m","model_version":"1.0","id":"7","outputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1.5]},{"name":"b","datatype":"INT16","shape":[1,2],"data":[1,-1]}]}"#
        );
        let binary = wanted(r#"{"inputs": [], "outputs": [{"name": "b", "parameters": {"binary_data": true}}]}"#);
        let encoded = encode(&HEAD, &outputs, &binary).unwrap();
        let (json, behind) = encoded.body.split_at(encoded.json_length.unwrap());
        assert_eq!(behind, [1, 0, 255, 255]);
        assert_eq!(
            std::str::from_utf8(json).unwrap(),
            r#"{"model_name":"m","model_version":"1.0","id":"7","outputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1.5]},{"name":"b","datatype":"INT16","shape":[1,2],"parameters":{"binary_data_size":4}}]}"#
        );
        let all = wanted(r#"{"inputs": [], "parameters": {"binary_data_output": true}}"#);
        let encoded = encode(&HEAD, &outputs, &all).unwrap();
        assert_eq!(encoded.body[encoded.json_length.unwrap()..], [0, 0, 0xc0, 0x3f, 1, 0, 255, 255]);
    }

    #[test]
    fn bfloat16_is_binary_only() {
        let outputs = [tensor("a", DType::BF16, &[1], &[0x80, 0x3f])];
        let error = encode(&HEAD, &outputs, &Binary::default()).unwrap_err();
        assert!(error.starts_with("the output \"a\" is BF16"), "{error}");
        let all = wanted(r#"{"inputs": [], "parameters": {"binary_data_output": true}}"#);
        assert!(encode(&HEAD, &outputs, &all).unwrap().body.ends_with(&[0x80, 0x3f]));
    }
}
