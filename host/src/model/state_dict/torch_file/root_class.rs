//! The class of a pickled object, read off the pickle's first bytes; it serves messages only.

/// What a state dict is made of, and so no reason to refuse a file.
const DICTS: [&str; 1] = ["collections.OrderedDict"];

/// The class or function that makes a pickle's outermost object, if it isn't a dict.
pub(super) fn root_class(pickle: &[u8]) -> Option<String> {
    let mut rest = pickle;
    if let Some((&[0x80, _], behind)) = rest.split_first_chunk() {
        rest = behind;
    }
    if let Some((&[0x95, ..], behind)) = rest.split_first_chunk::<9>() {
        rest = behind;
    }
    class_at(rest).filter(|class| !DICTS.contains(&class.as_str()))
}

/// The class of the outermost module in a file of the format before PyTorch 1.6, which names it as
/// `("module", class, …)`.
pub(super) fn legacy_module_class(head: &[u8]) -> Option<String> {
    [b"(X\x06\0\0\0module".as_slice(), b"(\x8c\x06module"].into_iter().find_map(|marker| {
        let at = head.windows(marker.len()).position(|window| window == marker)?;
        class_at(behind_memo(&head[at + marker.len()..]))
    })
}

/// The name that stands here, as protocol 2 or protocol 4 writes it.
fn class_at(pickle: &[u8]) -> Option<String> {
    if let Some(rest) = pickle.strip_prefix(b"c") {
        let mut lines = rest.split(|byte| *byte == b'\n');
        let (module, name) = (lines.next()?, lines.next()?);
        lines.next()?;
        return join(module, name);
    }
    let (module, rest) = short_text(pickle)?;
    let (name, rest) = short_text(rest)?;
    rest.starts_with(b"\x93").then(|| join(module, name))?
}

fn join(module: &[u8], name: &[u8]) -> Option<String> {
    let (module, name) = (str::from_utf8(module).ok()?, str::from_utf8(name).ok()?);
    Some(format!("{module}.{name}"))
}

/// A text with a length of one byte, and what comes behind it and its place in the memo.
fn short_text(pickle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = pickle.strip_prefix(b"\x8c")?.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((text, behind_memo(rest)))
}

fn behind_memo(pickle: &[u8]) -> &[u8] {
    match pickle {
        [b'q', _, rest @ ..] | [b'r', _, _, _, _, rest @ ..] | [0x94, rest @ ..] => rest,
        rest => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_read_off_the_first_bytes() {
        let table: [(&[u8], Option<&str>); 7] = [
            (b"\x80\x02c__main__\nNet\nq\x00)\x81", Some("__main__.Net")),
            (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x03Net\x94\x93\x94", Some("m.Net")),
            (b"\x80\x02ccollections\nOrderedDict\nq\x00)R", None),
            (b"\x80\x02}q\x00.", None),
            (b"\x80\x02c__main__\nNet", None),
            (b"\x80\x04\x8c\xffshort", None),
            (b"", None),
        ];
        for (pickle, class) in table {
            assert_eq!(root_class(pickle).as_deref(), class, "{}", pickle.escape_ascii());
        }
    }
}
