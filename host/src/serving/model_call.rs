//! A call of the model itself, without its handler: named tensors in, named tensors out.

use bytes::Bytes;
use handler_sdk::DType;
use handler_sdk::Error as HandlerError;
use handler_sdk::abi::instance::HostServices;
use handler_sdk::abi::raw::RawDoor;
use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawEventKind;
use handler_sdk::abi::raw::RawTensor;

use super::Signature;
use super::signature::Arranged;
use super::signature::Leaf;
use crate::archive::datatype_name;

/// What a model is called with, whatever protocol it came through.
#[derive(Debug, Clone, Default)]
pub struct ModelCall {
    pub inputs: Vec<NamedTensor>,
    /// The outputs that are wanted, in this order; all where there is none.
    pub outputs: Vec<String>,
}

/// A tensor as plain memory: as many bytes as datatype and shape need, in the machine's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor {
    pub name: String,
    pub datatype: DType,
    pub shape: Vec<i64>,
    pub bytes: Bytes,
}

/// The method that is called.
pub(super) const METHOD: &str = "forward";

/// Collects what a model gives, which may be tensors in lists, tuples and dicts, as the tensors alone.
#[derive(Debug, Default)]
struct Leaves {
    leaves: Vec<Leaf>,
    /// The keys of the dicts that are open; `None` for what has no key.
    open: Vec<Option<String>>,
    error: Option<String>,
}

// === impl ModelCall ===

impl ModelCall {
    /// Calls the model; the error is worded for the client where the client can mend it.
    pub(super) fn run(
        &self,
        signature: &Signature,
        services: &dyn HostServices,
    ) -> Result<Vec<NamedTensor>, HandlerError> {
        let (arranged, order) = signature.arrange(&self.inputs)?;
        let tensors = order.iter().map(|&index| {
            let tensor = &self.inputs[index];
            RawEvent::tensor(&tensor.name, RawTensor::plain(tensor.datatype.code(), &tensor.shape, &tensor.bytes))
        });
        let begin = match arranged {
            Arranged::Each => None,
            Arranged::List => Some(RawEvent::mark(RawEventKind::BEGIN_LIST, "")),
            Arranged::Dict => Some(RawEvent::mark(RawEventKind::BEGIN_DICT, "")),
        };
        let end = begin.map(|_| RawEvent::mark(RawEventKind::END, ""));
        let steps: Vec<_> = begin.into_iter().chain(tensors).chain(end).collect();
        let mut leaves = Leaves::default();
        services
            .forward(METHOD, &steps, RawDoor::PLAIN, &mut |event| leaves.take(event))
            .map_err(|error| self.failed(&error))?;
        if let Some(error) = leaves.error {
            return Err(HandlerError::new(error));
        }
        signature.name_outputs(leaves.leaves, &self.outputs)
    }

    /// An error of the device is the server's; any other comes of the inputs, for there is nothing else in a call.
    fn failed(&self, error: &str) -> HandlerError {
        if super::work::is_out_of_resources(error) {
            return HandlerError::new(error);
        }
        let inputs: Vec<String> = self
            .inputs
            .iter()
            .map(|input| format!("{:?} ({}, shape {:?})", input.name, datatype_name(input.datatype), input.shape))
            .collect();
        let inputs = if inputs.is_empty() { "no inputs".to_owned() } else { inputs.join(", ") };
        HandlerError::bad_request(format!("the model can't compute with {inputs}: {}", reason(error))).context(error)
    }
}

/// What libtorch says, without the trace through the model's code, which ends in `RuntimeError: …`.
fn reason(error: &str) -> &str {
    let last = error.rfind("Error: ").map(|place| &error[place + "Error: ".len()..]);
    let text = last.unwrap_or(error).trim();
    text.split("\nException raised from").next().unwrap_or(text).trim_end()
}

// === impl Leaves ===

impl Leaves {
    fn take(&mut self, event: &RawEvent<'_>) {
        let key = Some(event.name.as_str()).filter(|name| !name.is_empty()).map(str::to_owned);
        match event.kind {
            RawEventKind::TENSOR => {
                let raw = &event.tensor;
                let Some(datatype) = DType::from_code(raw.dtype) else {
                    self.error.get_or_insert(format!("the model gave a tensor of unknown element type {}", raw.dtype));
                    return;
                };
                let keys: Vec<String> = self.open.iter().flatten().cloned().chain(key).collect();
                self.leaves.push(Leaf {
                    key: (!keys.is_empty()).then(|| keys.join(".")),
                    datatype,
                    shape: raw.shape.as_slice().to_vec(),
                    bytes: Bytes::copy_from_slice(raw.bytes.as_slice()),
                });
            }
            RawEventKind::BEGIN_LIST | RawEventKind::BEGIN_DICT => self.open.push(key),
            RawEventKind::END => drop(self.open.pop()),
            _ => {
                self.error.get_or_insert_with(|| event.name.as_str().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use handler_sdk::Level;
    use handler_sdk::MetricKind;

    use super::*;
    use crate::archive::Declared;
    use crate::model::Parameter;
    use crate::model::ParameterKind;
    use crate::model::Schema;

    /// A model that gives its inputs back in a dict in a tuple, or raises.
    struct Model(Result<(), &'static str>);

    impl HostServices for Model {
        fn log(&self, _: Level, _: &str) {}

        fn metric(&self, _: MetricKind, _: &str, _: f64, _: &str, _: &[(&str, &str)]) {}

        fn forward(
            &self,
            method: &str,
            inputs: &[RawEvent<'_>],
            _: RawDoor,
            emit: &mut dyn FnMut(&RawEvent<'_>),
        ) -> Result<(), String> {
            assert_eq!(method, "forward");
            self.0?;
            emit(&RawEvent::mark(RawEventKind::BEGIN_LIST, ""));
            emit(&inputs[0]);
            emit(&RawEvent::mark(RawEventKind::BEGIN_DICT, ""));
            inputs[1..].iter().for_each(&mut *emit);
            emit(&RawEvent::mark(RawEventKind::BEGIN_DICT, "inner"));
            emit(&inputs[0]);
            emit(&RawEvent::mark(RawEventKind::END, ""));
            emit(&RawEvent::mark(RawEventKind::END, ""));
            emit(&RawEvent::mark(RawEventKind::END, ""));
            Ok(())
        }

        fn weights(&self, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
            Ok(())
        }
    }

    /// Of a model that takes two tensors.
    fn pair() -> Signature {
        let parameter =
            |name: &str| Parameter { name: name.to_owned(), kind: ParameterKind::Tensor, is_optional: false };
        let schema = Schema { parameters: vec![parameter("first"), parameter("second")], outputs: None };
        Signature::new(schema, Declared::default())
    }

    fn call() -> ModelCall {
        let input = |name: &str, byte| NamedTensor {
            name: name.to_owned(),
            datatype: DType::U8,
            shape: vec![1],
            bytes: Bytes::copy_from_slice(&[byte]),
        };
        ModelCall { inputs: vec![input("", 1), input("b", 2)], outputs: Vec::new() }
    }

    #[test]
    fn what_a_model_gives_is_laid_out_flat() {
        let signature = pair();
        let mut call = call();
        let outputs = call.run(&signature, &Model(Ok(()))).unwrap();
        let told: Vec<_> = outputs.iter().map(|output| (output.name.as_str(), output.bytes.to_vec())).collect();
        assert_eq!(told, [("OUTPUT__0", vec![1]), ("b", vec![2]), ("inner", vec![1])]);
        call.outputs = vec!["inner".to_owned(), "b".to_owned()];
        let outputs = call.run(&signature, &Model(Ok(()))).unwrap();
        assert_eq!(outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["inner", "b"]);
        call.outputs = vec!["absent".to_owned()];
        let error = call.run(&signature, &Model(Ok(()))).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.client_text().contains("\"absent\""), "{error}");
    }

    #[test]
    fn what_the_model_raises_is_told_without_its_trace() {
        let signature = pair();
        const RAISED: &str = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized code (most recent call last):\n  File \"code/secret.py\", line 3, in forward\nRuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2 and 784x128)\n";
        let error = call().run(&signature, &Model(Err(RAISED))).unwrap_err();
        assert_eq!(error.status(), 400);
        assert_eq!(
            error.client_text(),
            "the model can't compute with \"\" (UINT8, shape [1]), \"b\" (UINT8, shape [1]): mat1 and mat2 shapes cannot be multiplied (1x2 and 784x128)"
        );
        assert!(error.log_text().contains("secret.py"), "the log gets all of it");
        let error = call().run(&signature, &Model(Err("CUDA out of memory"))).unwrap_err();
        assert!(!error.is_worded(), "what the device lacks is no fault of the client");
    }
}
