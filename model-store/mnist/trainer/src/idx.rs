//! The format of MNIST's own files (idx), for people who have them.

use std::path::Path;

use crate::error::Error;
use crate::picture::{PIXELS, Picture, SIDE};

const IMAGES: u32 = 2051;
const LABELS: u32 = 2049;

/// Pictures with the digit each shows.
pub(crate) fn read(images: &Path, labels: &Path) -> Result<Vec<(u8, Picture)>, Error> {
    let pixels = load(images, IMAGES, &[SIDE, SIDE])?;
    let digits = load(labels, LABELS, &[])?;
    let count = pixels.len() / PIXELS;
    if digits.len() != count {
        let why = format!("it has {} labels for {count} pictures; the files don't belong together", digits.len());
        return Err(Error::Idx { path: labels.to_owned(), why });
    }
    let picture = |bytes: &[u8]| {
        let mut picture = Picture([0; PIXELS]);
        picture.0.copy_from_slice(bytes);
        picture
    };
    Ok(digits.into_iter().zip(pixels.chunks_exact(PIXELS).map(picture)).collect())
}

fn load(path: &Path, magic: u32, shape: &[usize]) -> Result<Vec<u8>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
    let wrong = |why: String| Error::Idx { path: path.to_owned(), why };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(wrong("it is still compressed; run gunzip on it first".to_owned()));
    }
    let start = 8 + 4 * shape.len();
    let number = |i: usize| {
        let four = bytes.get(i * 4..i * 4 + 4).and_then(|four| four.try_into().ok());
        four.map_or(0, u32::from_be_bytes)
    };
    if number(0) != magic {
        return Err(wrong(format!(
            "it begins with {}, where {magic} is needed; is it the other of the two files?",
            number(0)
        )));
    }
    for (i, side) in shape.iter().enumerate() {
        if number(2 + i) as usize != *side {
            return Err(wrong(format!("its pictures have a side of {}; {side} is needed", number(2 + i))));
        }
    }
    let size = number(1) as usize * shape.iter().product::<usize>();
    if bytes.len() != start + size {
        return Err(wrong(format!(
            "it has {} bytes where its head promises {}; fetch it again",
            bytes.len(),
            start + size
        )));
    }
    Ok(bytes[start..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(head: &[u32], body: &[u8]) -> Vec<u8> {
        head.iter().flat_map(|n| n.to_be_bytes()).chain(body.iter().copied()).collect()
    }

    #[test]
    fn files_are_read_or_refused_with_the_reason() {
        let images = file(&[2051, 2, 28, 28], &[5; 2 * PIXELS]);
        let labels = file(&[2049, 2], &[7, 1]);
        let small = file(&[2051, 2, 20, 28], &[5; 2 * 20 * 28]);
        let short = file(&[2051, 2, 28, 28], &[5; PIXELS]);
        let three = file(&[2049, 3], &[7, 1, 2]);
        let table = [
            (&images, &labels, None),
            (&labels, &images, Some("other of the two files")),
            (&small, &labels, Some("side of 20")),
            (&short, &labels, Some("fetch it again")),
            (&images, &three, Some("3 labels for 2 pictures")),
            (&vec![0x1f, 0x8b, 8], &labels, Some("gunzip")),
            (&vec![], &labels, Some("begins with 0")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("images"), folder.path().join("labels"));
        for (images, labels, refusal) in table {
            std::fs::write(&a, images).unwrap();
            std::fs::write(&b, labels).unwrap();
            match (read(&a, &b), refusal) {
                (Ok(read), None) => {
                    assert_eq!(read.iter().map(|r| r.0).collect::<Vec<_>>(), [7, 1])
                }
                (Err(err), Some(part)) => assert!(err.to_string().contains(part), "{err}"),
                (read, refusal) => panic!("{} where {refusal:?} was due", read.is_ok()),
            }
        }
    }
}
