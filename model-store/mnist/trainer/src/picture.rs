//! A digit as the network sees it: 28 by 28 greys, white ink on black.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use crate::error::Error;

pub(crate) const SIDE: usize = 28;
pub(crate) const PIXELS: usize = SIDE * SIDE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture(pub(crate) [u8; PIXELS]);

// === impl Picture ===

impl Picture {
    pub(crate) fn write_png(&self, path: &Path) -> Result<(), Error> {
        write_grey(path, SIDE, &self.0)
    }

    #[cfg(any(test, feature = "torch"))]
    /// Reads a PNG of 28 by 28 pixels; colours become greys, transparency is left out.
    pub(crate) fn read_png(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::read(path, source))?;
        let mut decoder = png::Decoder::new(std::io::BufReader::new(file));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let wrong = |why: String| Error::Picture { path: path.to_owned(), why };
        let mut reader = decoder.read_info().map_err(|err| wrong(err.to_string()))?;
        let (width, height) = reader.info().size();
        if (width as usize, height as usize) != (SIDE, SIDE) {
            return Err(wrong(format!("it is {width}x{height} pixels; 28x28 are needed")));
        }
        let mut bytes = vec![0; PIXELS * 4];
        let frame = reader.next_frame(&mut bytes).map_err(|err| wrong(err.to_string()))?;
        let samples = frame.color_type.samples();
        let mut picture = Self([0; PIXELS]);
        for (grey, pixel) in picture.0.iter_mut().zip(bytes.chunks_exact(samples)) {
            let colours = if samples < 3 { &pixel[..1] } else { &pixel[..3] };
            let sum: usize = colours.iter().map(|&c| usize::from(c)).sum();
            *grey = (sum / colours.len()) as u8;
        }
        Ok(picture)
    }
}

/// Writes many pictures side by side, to be looked at.
pub(crate) fn write_sheet(path: &Path, columns: usize, pictures: &[Picture]) -> Result<(), Error> {
    let rows = pictures.len().div_ceil(columns);
    let mut bytes = vec![0; columns * rows * PIXELS];
    for (i, picture) in pictures.iter().enumerate() {
        let corner = (i / columns) * SIDE * columns * SIDE + (i % columns) * SIDE;
        for (y, row) in picture.0.chunks_exact(SIDE).enumerate() {
            let at = corner + y * columns * SIDE;
            bytes[at..at + SIDE].copy_from_slice(row);
        }
    }
    write_grey(path, columns * SIDE, &bytes)
}

fn write_grey(path: &Path, width: usize, bytes: &[u8]) -> Result<(), Error> {
    let file = File::create(path).map_err(|source| Error::write(path, source))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width as u32, (bytes.len() / width) as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(bytes))
        .map_err(|err| Error::write(path, std::io::Error::other(err)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back_from_its_png() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7.png");
        let mut picture = Picture([0; PIXELS]);
        picture.0[400] = 200;
        picture.write_png(&path).unwrap();
        assert_eq!(Picture::read_png(&path).unwrap(), picture);
    }

    #[test]
    fn a_sheet_is_no_picture_and_the_error_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        write_sheet(&path, 2, &vec![Picture([9; PIXELS]); 3]).unwrap();
        let text = Picture::read_png(&path).unwrap_err().to_string();
        assert!(text.contains("56x56") && text.contains("sheet.png"), "{text}");
    }
}
