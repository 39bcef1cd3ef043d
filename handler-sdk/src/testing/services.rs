//! What a handler under test asks of its host: the test's closures answer.

use std::cell::RefCell;

use super::Metric;
use crate::Level;
use crate::MetricKind;
use crate::Result;
use crate::Tensor;
use crate::Value;
use crate::abi::STAGE_METRICS;
use crate::abi::instance::HostServices;
use crate::abi::raw::RawDoor;
use crate::abi::raw::RawEvent;
use crate::abi::raw::RawGradients;
use crate::abi::values;

#[derive(Default)]
pub(super) struct Services {
    pub(super) model: Option<Forward>,
    pub(super) layer: Option<Layer>,
    pub(super) gradients: Option<Gradients>,
    pub(super) weights: Vec<(String, Tensor)>,
    pub(super) log: RefCell<Vec<(Level, String)>>,
    pub(super) metrics: RefCell<Vec<Metric>>,
}

type Forward = Box<dyn Fn(&[Value]) -> Result<Value>>;

/// Of a layer (empty for the first input), inputs and target.
type Gradients = Box<dyn Fn(&str, &[Value], usize) -> Result<Tensor>>;

type Layer = Box<dyn Fn(&str, &[Value]) -> Result<Value>>;

// === impl Services ===

impl HostServices for Services {
    fn log(&self, level: Level, message: &str) {
        self.log.borrow_mut().push((level, message.to_owned()));
    }

    fn metric(&self, kind: MetricKind, name: &str, value: f64, unit: &str, labels: &[(&str, &str)]) {
        // The SDK gives these itself, and their values are no test's.
        if STAGE_METRICS.contains(&name) {
            return;
        }
        let labels = labels.iter().map(|&(label, value)| (label.to_owned(), value.to_owned())).collect();
        self.metrics.borrow_mut().push(Metric { kind, name: name.to_owned(), value, unit: unit.to_owned(), labels });
    }

    fn forward(
        &self,
        _: &str,
        inputs: &[RawEvent<'_>],
        _: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let model = self.model.as_ref().ok_or("the test's host has no model: give it one with Host::model")?;
        let output = values::take(inputs).and_then(|inputs| model(&inputs)).map_err(|error| error.to_string())?;
        values::lend(&[output], |steps| steps.iter().for_each(emit));
        Ok(())
    }

    fn layer(
        &self,
        _: &str,
        layer: &str,
        inputs: &[RawEvent<'_>],
        _: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let give = self.layer.as_ref().ok_or("the test's host has no layers: give them with Host::layer")?;
        let value = values::take(inputs).and_then(|inputs| give(layer, &inputs)).map_err(|error| error.to_string())?;
        values::lend(&[value], |steps| steps.iter().for_each(emit));
        Ok(())
    }

    fn gradients(
        &self,
        asked: &RawGradients<'_>,
        _: RawDoor,
        emit: &mut dyn FnMut(&RawEvent<'_>),
    ) -> Result<(), String> {
        let give = self.gradients.as_ref().ok_or("the test's host has no gradients: give them with Host::gradients")?;
        let target = usize::try_from(asked.target).unwrap_or(usize::MAX);
        let gradients = values::take(asked.inputs.as_slice())
            .and_then(|inputs| give(asked.layer.as_str(), &inputs, target))
            .map_err(|error| error.to_string())?;
        values::lend(&[gradients.into()], |steps| steps.iter().for_each(emit));
        Ok(())
    }

    fn weights(&self, _: RawDoor, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        for (name, tensor) in &self.weights {
            emit(&RawEvent::tensor(name, values::to_raw(tensor, &tensor.shape())));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
