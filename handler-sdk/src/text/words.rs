//! From text to words, and from words to n-grams, as torchtext does it.

/// Splits a text into words as torchtext's tokenizer `basic_english` does: in small letters, each mark a word of its own, some left out.
///
/// ```
/// assert_eq!(handler_sdk::text::basic_english("Try it, \"now\": it's new!"), ["try", "it", ",", "now", "it", "'", "s", "new", "!"]);
/// ```
pub fn basic_english(text: &str) -> Vec<String> {
    let mut line = text.to_lowercase();
    for (pattern, replacement) in REPLACEMENTS {
        // Most lines have few of them.
        if line.contains(pattern) {
            line = line.replace(pattern, replacement);
        }
    }
    line.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// All words, then all pairs of neighbours joined by a space, and so on up to rows of `longest` words: torchtext's `ngrams_iterator`.
///
/// ```
/// assert_eq!(handler_sdk::text::ngrams(&["here", "we", "are"], 2), ["here", "we", "are", "here we", "we are"]);
/// ```
pub fn ngrams<W: AsRef<str>>(words: &[W], longest: usize) -> Vec<String> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let mut rows: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    for length in 2..=longest.min(words.len()) {
        rows.extend(words.windows(length).map(|row| row.join(" ")));
    }
    rows
}

/// In the order in which they are made.
const REPLACEMENTS: [(&str, &str); 11] = [
    ("'", " '  "),
    ("\"", ""),
    (".", " . "),
    ("<br />", " "),
    (",", " , "),
    ("(", " ( "),
    (")", " ) "),
    ("!", " ! "),
    ("?", " ? "),
    (";", " "),
    (":", " "),
];

/// Python takes four control characters for spaces that Unicode doesn't.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}
