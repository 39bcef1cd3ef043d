//! The file of a vocabulary: what `torch.save` writes, now or before PyTorch 1.6, or a pickle alone.

use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::path::Path;

use crate::pickle;
use crate::pickle::Limits;
use crate::pickle::Pickle;
use crate::pickle::Records;

/// The largest pickle that is read: ten times that of a vocabulary of a million tokens.
const MOST: u64 = 256 << 20;

/// Room for six million tokens, each of which takes three instructions; at worst a gigabyte of memory, and that only for a file made to take it.
const LIMITS: Limits = Limits { steps: 20_000_000, objects: 10_000 };

/// How many bytes tell what a file is.
const START: u64 = 32;

/// What stands before the object in the form before PyTorch 1.6: a number, the protocol's version, and the machine's word sizes.
const PREFACE: usize = 3;

/// Reads a file that `torch.save` or `pickle.dump` has written, and shows `look` what it holds.
///
/// An error says what is wrong with the file, without its name.
pub(super) fn load<T>(path: &Path, look: impl FnOnce(&Pickle<'_>) -> Result<T, String>) -> Result<T, String> {
    let readable = |error: std::io::Error| format!("it can't be read: {error}");
    let mut file = BufReader::new(File::open(path).map_err(readable)?);
    let mut start = Vec::new();
    file.by_ref().take(START).read_to_end(&mut start).map_err(readable)?;
    file.rewind().map_err(readable)?;
    let mut data = Vec::new();
    let mut before = 0;
    if pickle::is_zip(&start) {
        data =
            Records::open(file).and_then(|mut records| records.pickle(MOST)).map_err(|found| format!("it {found}"))?;
    } else {
        file.take(MOST + 1).read_to_end(&mut data).map_err(readable)?;
        if data.len() as u64 > MOST {
            return Err(format!("it has more than {MOST} bytes, which is no vocabulary's size"));
        }
        if pickle::is_before_zip(&start) {
            before = PREFACE;
        }
    }
    let mut rest = &data[..];
    for _ in 0..before {
        rest = read(rest)?.1;
    }
    look(&read(rest)?.0)
}

fn read(data: &[u8]) -> Result<(Pickle<'_>, &[u8]), String> {
    pickle::read(data, LIMITS).map_err(|fault| fault.to_string())
}
