//! A wheel's own list of its files: `RECORD`, with size and digest of each.

use std::collections::HashMap;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What RECORD says about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sha256: Vec<u8>,
    pub(crate) size: u64,
}

/// Every file of a wheel that has a digest; RECORD itself has none.
#[derive(Debug)]
pub(crate) struct Record {
    entries: HashMap<String, Entry>,
}

// === impl Record ===

impl Record {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut entries = HashMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (path, entry) = parse_line(line).with_context(|| format!("a line of RECORD makes no sense: {line}"))?;
            if let Some(entry) = entry {
                entries.insert(path, entry);
            }
        }
        Ok(Self { entries })
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }
}

/// `path,sha256=<digest>,<size>`: CSV, so a path with a comma stands in quotes.
fn parse_line(line: &str) -> Option<(String, Option<Entry>)> {
    let (rest, size) = line.rsplit_once(',')?;
    let (path, digest) = rest.rsplit_once(',')?;
    let path = match path.strip_prefix('"').and_then(|path| path.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => path.to_owned(),
    };
    if digest.is_empty() && size.is_empty() {
        return Some((path, None));
    }
    let sha256 = URL_SAFE_NO_PAD.decode(digest.strip_prefix("sha256=")?).ok()?;
    let size = size.parse().ok()?;
    Some((path, Some(Entry { sha256, size })))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_FILE: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    #[test]
    fn files_have_digest_and_size() {
        let record = Record::parse(&format!(
            "torch/lib/libc10.so,sha256={EMPTY_FILE},0\n\"a, \"\"b\"\".h\",sha256={EMPTY_FILE},12\nx.dist-info/RECORD,,\n"
        ))
        .unwrap();
        let library = record.get("torch/lib/libc10.so").unwrap();
        assert_eq!(library.size, 0);
        assert_eq!(library.sha256[..4], [0xe3, 0xb0, 0xc4, 0x42]);
        assert_eq!(record.get("a, \"b\".h").unwrap().size, 12);
        assert_eq!(record.get("x.dist-info/RECORD"), None);
    }

    #[test]
    fn a_damaged_list_is_refused_with_its_line() {
        for line in ["alone", "a,md5=xx,3", "a,sha256=!!!,3", "a,sha256=AAAA,many"] {
            let message = Record::parse(line).unwrap_err().to_string();
            assert!(message.ends_with(line), "{message}");
        }
    }
}
