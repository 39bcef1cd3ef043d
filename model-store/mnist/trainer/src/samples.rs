//! Pictures for people: the demo's ten digits, and sheets to look at.

use std::path::Path;

use crate::cli::{DigitsArgs, SheetArgs};
use crate::draw::{self, Style};
use crate::error::Error;
use crate::picture;
use crate::report;

const COLUMNS: u64 = 30;

pub(crate) fn digits(args: &DigitsArgs) -> Result<(), Error> {
    folder(&args.out)?;
    for digit in 0..10 {
        let path = args.out.join(format!("{digit}.png"));
        draw::digit(digit, Style::HeldOut, args.seed, digit.into()).write_png(&path)?;
        report::wrote(&path);
    }
    Ok(())
}

pub(crate) fn sheet(args: &SheetArgs) -> Result<(), Error> {
    let style = if args.held_out { Style::HeldOut } else { Style::Training };
    let rows = (0..10).map(|row| args.digit.unwrap_or(row));
    let pictures: Vec<_> = rows
        .enumerate()
        .flat_map(|(row, digit)| (0..COLUMNS).map(move |c| (digit, row as u64 * COLUMNS + c)))
        .map(|(digit, number)| draw::digit(digit, style, args.seed, number))
        .collect();
    picture::write_sheet(&args.out, COLUMNS as usize, &pictures)?;
    report::wrote(&args.out);
    Ok(())
}

/// Makes the folder if it isn't there.
pub(crate) fn folder(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::write(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_pictures_are_written() {
        let out = tempfile::tempdir().unwrap();
        digits(&DigitsArgs { out: out.path().join("new"), seed: 1 }).unwrap();
        for digit in 0..10 {
            picture::Picture::read_png(&out.path().join(format!("new/{digit}.png"))).unwrap();
        }
    }
}
