//! How good the weights are, on digits they have never seen.

use crate::accuracy::Accuracy;
use crate::cli::EvaluateArgs;
use crate::draw::{self, Style};
use crate::error::Error;
use crate::feed::Batch;
use crate::folder;
use crate::idx;
use crate::net::{Mode, Net};
use crate::picture::{self, Picture};
use crate::report;

const HELD_OUT: u64 = 10_000;
const HELD_OUT_SEED: u64 = 1_000_003;

pub(crate) fn evaluate(args: &EvaluateArgs) -> Result<(), Error> {
    let net = Net::read(&args.weights)?;
    let (what, pictures) = match (&args.idx_images, &args.idx_labels, &args.png_dir) {
        (Some(images), Some(labels), _) => ("idx files", idx::read(images, labels)?),
        (_, _, Some(folder)) => ("folder of pictures", folder::read(folder)?),
        _ => ("held-out digits", drawn()),
    };
    let (accuracy, wrong) = answered(&net, &pictures);
    report::accuracy(what, &accuracy);
    if let Some(path) = &args.wrong {
        picture::write_sheet(path, 30, &wrong)?;
        report::wrote(path);
    }
    Ok(())
}

/// The accuracy on digits drawn by the held-out hand.
pub(crate) fn held_out(net: &Net) -> Accuracy {
    answered(net, &drawn()).0
}

fn drawn() -> Vec<(u8, Picture)> {
    let bar = report::bar(HELD_OUT, "drawing held-out digits");
    let draw = |number| {
        let digit = (number % 10) as u8;
        (digit, draw::digit(digit, Style::HeldOut, HELD_OUT_SEED, number))
    };
    let pictures = bar.wrap_iter(0..HELD_OUT).map(draw).collect();
    bar.finish_and_clear();
    pictures
}

/// The accuracy, and the pictures that were taken for another digit.
fn answered(net: &Net, pictures: &[(u8, Picture)]) -> (Accuracy, Vec<Picture>) {
    let (mut accuracy, mut wrong) = (Accuracy::default(), Vec::new());
    let bar = report::bar(pictures.len() as u64, "answering");
    for chunk in pictures.chunks(256) {
        let mut batch = Batch::default();
        for (digit, picture) in chunk {
            batch.push(*digit, picture);
        }
        let answers = tch::no_grad(|| net.forward(&batch.pictures(), Mode::Answering).argmax(1, false));
        for (i, (digit, picture)) in chunk.iter().enumerate() {
            let answer = answers.int64_value(&[i as i64]) as u8;
            accuracy.count(*digit, answer);
            if answer != *digit {
                wrong.push(picture.clone());
            }
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    (accuracy, wrong)
}
