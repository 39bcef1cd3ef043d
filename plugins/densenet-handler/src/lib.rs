//! TorchServe's `DenseNetHandler`: a tensor comes in as `torch.save` writes it, and the model's output goes out in the same form.
//!
//! The input is the request's field `data`, or its body. A picture `[3, height, width]`, like a tensor of any other rank, gets a batch dimension, as in TorchServe; a tensor of four dimensions has its own.
//! So `[3, 224, 224]` is answered with `[1, 1000]`, and `[2, 3, 224, 224]` with `[2, 1000]`.
//!
//! The model is TorchScript, or with the feature `tch` the state dict of DenseNet or another network that the SDK has built in.
//! Copy this folder to start a handler whose clients speak PyTorch, or one that computes a whole batch in its own way.

#[cfg(test)]
mod tests;

use handler_sdk::DType;
use handler_sdk::Network;
use handler_sdk::prelude::*;
use handler_sdk::torch_file;

#[derive(Default)]
struct DenseNetHandler {
    network: Network,
}

/// The dimensions of a batch of pictures.
const PICTURES: usize = 4;

impl Handler for DenseNetHandler {
    fn initialize(&mut self, context: &Context) -> Result<()> {
        self.network = Network::load(context)?;
        Ok(())
    }

    /// Not step by step: inputs may differ in their shapes, and each may bring several rows.
    fn handle(&self, batch: &Batch, context: &Context) -> Result<Vec<Response>> {
        let mut answers: Vec<Result<Response>> = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for (index, request) in batch.iter().enumerate() {
            // Holds the request's place until its group has been computed.
            answers.push(Err(Error::new("the request was in no group")));
            match rows(request).and_then(|input| Group::add(&mut groups, index, input)) {
                Ok(()) => {}
                Err(error) => answers[index] = Err(error),
            }
        }
        for group in groups {
            for (index, output) in self.compute(group, context) {
                answers[index] = output.and_then(|output| Ok(Response::bytes(torch_file::save(&output)?)));
            }
        }
        Ok(answers.into_iter().map(Response::from).collect())
    }
}

// As TorchServe calls it: the type's own name would make it `dense_net_handler`.
export_handler!(DenseNetHandler as "densenet_handler");

impl DenseNetHandler {
    /// One call of the model for the whole group; where that fails, one for each request, so that the one at fault fails alone.
    fn compute(&self, group: Group, context: &Context) -> Vec<(usize, Result<Tensor>)> {
        if group.inputs.len() > 1
            && let Ok(outputs) = self.together(&group.inputs, context)
        {
            return group.inputs.into_iter().zip(outputs).map(|((index, _), output)| (index, Ok(output))).collect();
        }
        group.inputs.into_iter().map(|(index, input)| (index, self.forward(input, context))).collect()
    }

    fn together(&self, inputs: &[(usize, Tensor)], context: &Context) -> Result<Vec<Tensor>> {
        let mut rows = Vec::new();
        let mut counts = Vec::new();
        for (_, input) in inputs {
            let own = input.unbind()?;
            counts.push(own.len());
            rows.extend(own);
        }
        let outputs = Value::from(self.forward(Tensor::stack(&rows)?, context)?).split(rows.len())?;
        let mut outputs = outputs.into_iter().map(Value::tensor);
        counts
            .into_iter()
            .map(|count| Tensor::stack(&outputs.by_ref().take(count).collect::<Result<Vec<_>>>()?))
            .collect()
    }

    fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        self.network.forward(vec![input.into()], context)?.tensor()
    }
}

/// Requests of a batch whose tensors can be put together, each with its place in the batch.
struct Group {
    dtype: DType,
    /// Without the batch dimension.
    shape: Vec<i64>,
    inputs: Vec<(usize, Tensor)>,
}

impl Group {
    fn add(groups: &mut Vec<Self>, index: usize, input: Tensor) -> Result<()> {
        let (dtype, shape) = (input.dtype()?, input.shape()[1..].to_vec());
        match groups.iter_mut().find(|group| group.dtype == dtype && group.shape == shape) {
            Some(group) => group.inputs.push((index, input)),
            None => groups.push(Self { dtype, shape, inputs: vec![(index, input)] }),
        }
        Ok(())
    }
}

/// The request's tensor with its batch dimension, `[n, …]`.
fn rows(request: &Request) -> Result<Tensor> {
    let field = request.input()?;
    let tensor = torch_file::load_field(&field)?;
    let shape = tensor.shape();
    match shape.len() {
        PICTURES if shape[0] == 0 => Err(Error::bad_request(format!(
            "field `{}` is a tensor of shape {shape:?}, a batch without pictures: send one or more",
            field.name()
        ))),
        PICTURES => Ok(tensor),
        _ => tensor.reshape(&[&[1], shape.as_slice()].concat()),
    }
}
