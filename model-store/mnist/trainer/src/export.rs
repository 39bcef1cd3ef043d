//! The TorchScript model, traced from the weights and compared with them.

use std::path::Path;

use tch::{CModule, Device, Kind, Tensor};

use crate::cli::ExportArgs;
use crate::error::Error;
use crate::net::{Mode, Net};
use crate::report;
use crate::samples;

const MODEL: &str = "mnist.pt";

pub(crate) fn export(args: &ExportArgs) -> Result<(), Error> {
    let net = Net::read(&args.weights)?;
    samples::folder(&args.out)?;
    write(&net, &args.out)
}

/// Writes the model into the folder and reads it back.
pub(crate) fn write(net: &Net, folder: &Path) -> Result<(), Error> {
    let refused = |what| move |source| Error::Torch { what, source };
    let path = folder.join(MODEL);
    let module = tch::no_grad(|| {
        CModule::create_by_tracing("MnistCnn", "forward", &[pictures(2)], &mut |inputs| {
            vec![net.forward(&inputs[0], Mode::Answering)]
        })
    });
    let module = module.map_err(refused("trace the network"))?;
    module.save(&path).map_err(refused("write the TorchScript model"))?;
    compare(net, &path)?;
    report::wrote(&path);
    Ok(())
}

/// A trace can keep the batch size it was made with, and would then fail on the first other batch.
fn compare(net: &Net, path: &Path) -> Result<(), Error> {
    let refused = |source| Error::Torch { what: "run the TorchScript model", source };
    let module = CModule::load(path).map_err(refused)?;
    for count in [1, 3, 16] {
        let pictures = pictures(count);
        let given = module.forward_ts(&[&pictures]).map_err(refused)?;
        let due = tch::no_grad(|| net.forward(&pictures, Mode::Answering));
        if given.size() != due.size() {
            let why = format!("shape {:?}, not {:?}", given.size(), due.size());
            return Err(Error::Export { path: path.to_owned(), why });
        }
        let away = (given - due).abs().max().double_value(&[]);
        // A NaN is above no limit, and must be refused as well.
        if away > 1e-4 || away.is_nan() {
            return Err(Error::Export { path: path.to_owned(), why: format!("off by {away}") });
        }
    }
    Ok(())
}

fn pictures(count: i64) -> Tensor {
    Tensor::rand([count, 1, 28, 28], (Kind::Float, Device::Cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_answers_as_the_weights_do_for_any_batch() {
        let folder = tempfile::tempdir().unwrap();
        let net = Net::fresh();
        write(&net, folder.path()).unwrap();
        let text = compare(&Net::fresh(), &folder.path().join(MODEL)).unwrap_err().to_string();
        assert!(text.contains("off by") && text.contains("mnist.pt"), "{text}");
    }
}
