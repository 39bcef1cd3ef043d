//! From what a client wrote to plain words, as TorchServe's `TextHandler` does it.

use unicode_normalization::UnicodeNormalization;

use super::contractions;

/// A text without markup, accents, punctuation and capitals, and with its contractions spelled out.
///
/// The same as TorchServe's steps in their order, quirks included, because a model was trained on what they give: `ain't` becomes `as not`, and a letter without a likeness in ASCII vanishes.
///
/// Letters newer than Unicode 14, that of Python 3.11, are read as later Pythons read them.
///
/// ```
/// assert_eq!(handler_sdk::text::clean("<p>It's a CAFÉ &amp; I don't mind!</p>"), "it is a cafe  i do not mind");
/// ```
pub fn clean(text: &str) -> String {
    let text = without_markup(text).to_lowercase();
    let text = contractions::expand(&text);
    text.nfkd().filter(|letter| letter.is_ascii() && !letter.is_ascii_punctuation()).collect()
}

/// Takes out HTML's tags and entities.
///
/// A tag is all from a `<` to the next `>` in the same line; an entity is written in small letters.
fn without_markup(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    // Bytes of `text` before which no tag ends, so that a row of `<` is read once and not once each.
    let mut no_end_before = 0;
    while let Some(start) = rest.find(['<', '&']) {
        kept.push_str(&rest[..start]);
        let markup = &rest[start..];
        let place = text.len() - markup.len();
        let length = if markup.starts_with('&') {
            entity(markup)
        } else {
            if no_end_before <= place {
                no_end_before = markup.find(['>', '\n']).map_or(text.len(), |length| place + length);
            }
            text[no_end_before..].starts_with('>').then(|| no_end_before + 1 - place)
        };
        // What is no markup is kept as it is.
        let length = length.unwrap_or_else(|| {
            kept.push_str(&markup[..1]);
            1
        });
        rest = &markup[length..];
    }
    kept.push_str(rest);
    kept
}

/// The length of the entity at the beginning, if there is one: `&amp;`, `&#39;`, `&#x27;`.
fn entity(text: &str) -> Option<usize> {
    let after = text.strip_prefix('&')?;
    let end = after.find(|letter: char| letter != '#' && !letter.is_ascii_alphanumeric())?;
    let inside = &after[..end];
    let is_entity = match inside.strip_prefix('#') {
        Some(number) => match number.strip_prefix('x') {
            Some(number) => (1..=6).contains(&number.len()) && number.bytes().all(is_hexadecimal),
            None => (1..=6).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit()),
        },
        None => !inside.is_empty() && inside.bytes().all(|letter| matches!(letter, b'a'..=b'z' | b'0'..=b'9')),
    };
    (is_entity && after[end..].starts_with(';')).then_some("&;".len() + end)
}

fn is_hexadecimal(digit: u8) -> bool {
    matches!(digit, b'0'..=b'9' | b'a'..=b'f')
}
