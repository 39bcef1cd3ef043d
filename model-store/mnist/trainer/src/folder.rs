//! A folder of pictures, each named after the digit it shows.

use std::path::Path;

use crate::error::Error;
use crate::picture::Picture;

/// The PNGs of the folder whose names begin with a digit, by name.
pub(crate) fn read(folder: &Path) -> Result<Vec<(u8, Picture)>, Error> {
    let refused = |source| Error::read(folder, source);
    let mut named = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let png = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let first = name.and_then(|name| name.chars().next()?.to_digit(10));
        if let (true, Some(digit)) = (png, first) {
            named.push((path, digit as u8));
        }
    }
    if named.is_empty() {
        return Err(Error::NoPictures { path: folder.to_owned() });
    }
    named.sort();
    named.into_iter().map(|(path, digit)| Ok((digit, Picture::read_png(&path)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::PIXELS;

    #[test]
    fn pictures_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("7-second.png"));
        for name in ["7-second.png", "3.png", "notes.png", "4.txt"] {
            Picture([1; PIXELS]).write_png(&folder.path().join(name)).unwrap();
        }
        let digits: Vec<u8> = read(folder.path()).unwrap().into_iter().map(|(digit, _)| digit).collect();
        assert_eq!(digits, [3, 7]);
    }
}
