//! A grey picture in a terminal: two of its rows in one line of half blocks.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use png::{Decoder, Transformations};

/// From which grey on a point is drawn.
const INK: u8 = 96;

/// The picture's lines, all of one width.
pub(crate) fn lines(file: &Path) -> Result<Vec<String>> {
    let read = || -> Result<Vec<String>> {
        let mut decoder = Decoder::new(BufReader::new(File::open(file)?));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let size = reader.output_buffer_size().context("the picture is too large")?;
        let mut points = vec![0; size];
        let frame = reader.next_frame(&mut points)?;
        // Of a coloured picture the first channel is enough.
        let channels = frame.color_type.samples();
        let grey: Vec<u8> = points.into_iter().step_by(channels).collect();
        Ok(half_blocks(&grey, frame.width as usize))
    };
    read().with_context(|| format!("{} can't be read as a PNG picture", file.display()))
}

fn half_blocks(grey: &[u8], width: usize) -> Vec<String> {
    let rows: Vec<&[u8]> = grey.chunks(width.max(1)).collect();
    rows.chunks(2)
        .map(|pair| {
            let (upper, lower) = (pair[0], pair.get(1));
            upper
                .iter()
                .enumerate()
                .map(|(column, upper)| {
                    let lower = lower.and_then(|row| row.get(column)).unwrap_or(&0);
                    match (*upper >= INK, *lower >= INK) {
                        (true, true) => '█',
                        (true, false) => '▀',
                        (false, true) => '▄',
                        (false, false) => ' ',
                    }
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_share_a_line() {
        #[rustfmt::skip]
        let grey = [
            255, 255,   0, 0,
            255,   0, 255, 0,
             99,   0,   0, 95,
        ];
        assert_eq!(half_blocks(&grey, 4), ["█▀▄ ", "▀   "]);
        assert!(half_blocks(&[], 0).is_empty());
    }

    #[test]
    fn a_png_file_is_drawn() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut encoder = png::Encoder::new(file.reopen().unwrap(), 2, 2);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[255, 0, 0, 255]).unwrap();
        writer.finish().unwrap();
        assert_eq!(lines(file.path()).unwrap(), ["▀▄"]);

        std::fs::write(file.path(), "text").unwrap();
        let message = format!("{:#}", lines(file.path()).unwrap_err());
        assert!(message.contains("can't be read as a PNG"), "{message}");
    }
}
