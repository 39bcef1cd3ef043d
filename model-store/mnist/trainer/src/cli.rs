//! The command line: what can be asked for, with the defaults that made the committed files.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Draws handwritten digits, trains the network of the demo on them, and writes the files it is served from.
///
/// No data set is needed: the training digits are drawn by this program.
/// A build without the feature `torch` only draws (digits, sheet).
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "A first run, from nothing to a model:\n  \
    mnist-trainer train --out build/mnist\n  \
    mnist-trainer evaluate --weights build/mnist/mnist_cnn.safetensors"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Draw training digits, train on them, and write mnist_cnn.safetensors and mnist.pt.
    #[cfg(feature = "torch")]
    Train(TrainArgs),
    /// Write mnist.pt (TorchScript) from a file of weights.
    #[cfg(feature = "torch")]
    Export(ExportArgs),
    /// Say how many digits the weights get right: on held-out digits, or on pictures of yours.
    #[cfg(feature = "torch")]
    Evaluate(EvaluateArgs),
    /// Write ten PNGs, 0.png to 9.png, drawn by a hand the network has never learned from.
    Digits(DigitsArgs),
    /// Write one PNG with many digits side by side, to look at what the network learns from.
    Sheet(SheetArgs),
}

#[cfg(feature = "torch")]
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// The folder to write to; it is made if need be.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The same seed, with the same number of threads, gives the same weights.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// How many times to train on fresh digits.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) epochs: u64,
    /// How many digits to draw for each epoch; none is drawn twice.
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(128..))]
    pub(crate) samples: u64,
    /// Threads for libtorch.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: u16,
}

#[cfg(feature = "torch")]
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The weights, as train writes them.
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: PathBuf,
    /// The folder to write to; it is made if need be.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[cfg(feature = "torch")]
#[derive(Debug, Args)]
#[command(after_help = "Without pictures of yours, 10,000 held-out digits are drawn.")]
pub(crate) struct EvaluateArgs {
    /// The weights, as train writes them.
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: PathBuf,
    /// MNIST's own pictures, unpacked: t10k-images-idx3-ubyte.
    #[arg(long, value_name = "FILE", requires = "idx_labels")]
    pub(crate) idx_images: Option<PathBuf>,
    /// The digits those pictures show: t10k-labels-idx1-ubyte.
    #[arg(long, value_name = "FILE", requires = "idx_images")]
    pub(crate) idx_labels: Option<PathBuf>,
    /// A folder of 28x28 PNGs, white on black, each named after its digit: 7.png, 7-second.png.
    #[arg(long, value_name = "DIR", conflicts_with = "idx_images")]
    pub(crate) png_dir: Option<PathBuf>,
    /// Write the pictures that were taken for another digit into one PNG.
    #[arg(long, value_name = "FILE")]
    pub(crate) wrong: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DigitsArgs {
    /// The folder to write to; it is made if need be.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Another seed draws other digits.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SheetArgs {
    /// The PNG to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Only this digit; without it, a row for each.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..10))]
    pub(crate) digit: Option<u8>,
    /// The held-out hand in place of the training hands.
    #[arg(long)]
    pub(crate) held_out: bool,
    /// Another seed draws other digits.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
