//! What English contractions stand for.
//!
//! This is what TorchServe's table comes to in effect: its handler takes the first entry that fits, so that `can't` hides `can't've`, and it keeps a contraction's first letter, whatever the entry begins with.

/// No contraction is the beginning of another, so that at most one fits at a place.
pub(super) const CONTRACTIONS: [(&str, &str); 83] = [
    ("'cause", "'ecause"),
    ("ain't", "as not"),
    ("aren't", "are not"),
    ("can't", "cannot"),
    ("could've", "could have"),
    ("couldn't", "could not"),
    ("didn't", "did not"),
    ("doesn't", "does not"),
    ("don't", "do not"),
    ("hadn't", "had not"),
    ("hasn't", "has not"),
    ("haven't", "have not"),
    ("he'd", "he would"),
    ("he'll", "he will"),
    ("he's", "he is"),
    ("how'd", "how did"),
    ("how'll", "how will"),
    ("how's", "how is"),
    ("i'd", "i would"),
    ("i'll", "i will"),
    ("i'm", "i am"),
    ("i've", "i have"),
    ("isn't", "is not"),
    ("it'd", "it would"),
    ("it'll", "it will"),
    ("it's", "it is"),
    ("let's", "let us"),
    ("ma'am", "madam"),
    ("mayn't", "may not"),
    ("might've", "might have"),
    ("mightn't", "might not"),
    ("must've", "must have"),
    ("mustn't", "must not"),
    ("needn't", "need not"),
    ("o'clock", "of the clock"),
    ("oughtn't", "ought not"),
    ("sha'n't", "shall not"),
    ("shan't", "shall not"),
    ("she'd", "she would"),
    ("she'll", "she will"),
    ("she's", "she is"),
    ("should've", "should have"),
    ("shouldn't", "should not"),
    ("so's", "so as"),
    ("so've", "so have"),
    ("that'd", "that would"),
    ("that's", "that is"),
    ("there'd", "there would"),
    ("there's", "there is"),
    ("they'd", "they would"),
    ("they'll", "they will"),
    ("they're", "they are"),
    ("they've", "they have"),
    ("to've", "to have"),
    ("wasn't", "was not"),
    ("we'd", "we would"),
    ("we'll", "we will"),
    ("we're", "we are"),
    ("we've", "we have"),
    ("weren't", "were not"),
    ("what'll", "what will"),
    ("what're", "what are"),
    ("what's", "what is"),
    ("what've", "what have"),
    ("when's", "when is"),
    ("when've", "when have"),
    ("where'd", "where did"),
    ("where's", "where is"),
    ("where've", "where have"),
    ("who'll", "who will"),
    ("who's", "who is"),
    ("who've", "who have"),
    ("why's", "why is"),
    ("why've", "why have"),
    ("will've", "will have"),
    ("won't", "will not"),
    ("would've", "would have"),
    ("wouldn't", "would not"),
    ("y'all", "you all"),
    ("you'd", "you would"),
    ("you'll", "you will"),
    ("you're", "you are"),
    ("you've", "you have"),
];

/// A contraction's first apostrophe is one of so many letters.
const REACH: usize = 8;

/// Spells out every contraction of a text in small letters.
pub(super) fn expand(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(apostrophe) = rest.find('\'') {
        // A contraction has an apostrophe, so the next one begins here or a few letters before.
        let starts = rest[..=apostrophe].char_indices().map(|(start, _)| start);
        let found = starts.filter(|start| start + REACH > apostrophe).find_map(|start| {
            let row = CONTRACTIONS.iter().find(|(short, _)| rest[start..].starts_with(short))?;
            Some((start, row))
        });
        match found {
            Some((start, (short, long))) => {
                expanded.push_str(&rest[..start]);
                expanded.push_str(long);
                rest = &rest[start + short.len()..];
            }
            None => {
                expanded.push_str(&rest[..=apostrophe]);
                rest = &rest[apostrophe + 1..];
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_contraction_fits_at_a_place() {
        for (index, (short, _)) in CONTRACTIONS.iter().enumerate() {
            let hidden =
                CONTRACTIONS.iter().enumerate().find(|(other, row)| *other != index && row.0.starts_with(short));
            assert_eq!(hidden, None, "{short}");
            assert!(short.find('\'').is_some_and(|place| place < REACH), "{short}");
        }
    }
}
