//! The forms that vocabularies have been saved in.

use super::Vocabulary;
use crate::pickle::Id;
use crate::pickle::Node;
use crate::pickle::Object;
use crate::pickle::Pickle;

/// Attributes under which classes keep their dict from tokens to indices.
const INDICES: [&str; 5] = ["stoi", "word2idx", "word_to_idx", "token2idx", "token_to_idx"];
/// Attributes under which classes keep their list of tokens.
const TOKENS: [&str; 2] = ["itos", "itos_"];
/// The attribute in which torchtext's `Vocab` keeps another one, that of C++.
const INNER: &str = "vocab";
/// How many of them may lie in each other.
const DEEPEST: usize = 4;

/// The names of Python's `int`, by which a `defaultdict` gives 0.
const INT: [(&str, &str); 3] = [("builtins", "int"), ("__builtin__", "int"), ("__builtin__", "long")];

/// What gives unknown tokens their index.
enum Default {
    Raises,
    Index(i64),
    /// A Python function that isn't known here.
    Function(String),
}

/// The vocabulary that a pickle holds. An error says what it holds instead.
pub(super) fn vocabulary(pickle: &Pickle<'_>) -> Result<Vocabulary, String> {
    read(pickle, pickle.root(), DEEPEST)
}

fn read(pickle: &Pickle<'_>, id: Id, depth: usize) -> Result<Vocabulary, String> {
    let nothing = || format!("it is {}", pickle.describe(id));
    if let Some(entries) = pickle.entries(id) {
        let default = pickle.object(id).map_or(Default::Raises, |object| default_of(pickle, object));
        return of_entries(pickle, entries)?.with_default(default);
    }
    if let Some(entries) = counted(pickle, id) {
        // What it hasn't got, a Counter has counted 0 times.
        return Ok(of_entries(pickle, entries)?.with_unknown(0));
    }
    if let Some(tokens) = pickle.sequence(id) {
        return of_tokens(pickle, tokens);
    }
    let state = pickle.object(id).and_then(|object| object.state).filter(|_| depth > 0).ok_or_else(nothing)?;
    if let Some(fields) = pickle.sequence(state) {
        return of_torchtext(pickle, fields).ok_or_else(nothing)?;
    }
    let attribute = |names: &[&str]| names.iter().find_map(|name| pickle.get(state, name));
    let vocabulary = if let Some(indices) = attribute(&INDICES) {
        // torchtext's own default is an attribute, and the dict's the method that reads it.
        let unknown = pickle.get(state, "unk_index").and_then(|index| pickle.int(index));
        match (unknown, pickle.entries(indices)) {
            (Some(unknown), Some(entries)) => Ok(of_entries(pickle, entries)?.with_unknown(unknown)),
            _ => read(pickle, indices, depth - 1),
        }
    } else if let Some(inner) = attribute(&[INNER]) {
        read(pickle, inner, depth - 1)
    } else {
        let tokens = attribute(&TOKENS).and_then(|tokens| pickle.sequence(tokens)).ok_or_else(nothing)?;
        of_tokens(pickle, tokens)
    };
    vocabulary.map_err(|found| format!("{}, and in that {found}", nothing()))
}

fn of_entries(pickle: &Pickle<'_>, entries: &[(Id, Id)]) -> Result<Vocabulary, String> {
    let texts = entries.iter().filter_map(|(token, index)| Some((pickle.text(*token)?, *index)));
    let tokens = texts.map(|(token, index)| match pickle.int(index) {
        Some(index) if index >= 0 => Ok((token, index)),
        Some(index) => Err(format!("its token {token:?} has the index {index}, and indices begin at 0")),
        None => Err(format!("its token {token:?} has {} for an index, and not an int", pickle.describe(index))),
    });
    let vocabulary: Vocabulary = tokens.collect::<Result<_, _>>()?;
    match vocabulary.is_empty() {
        false => Ok(vocabulary),
        true if entries.is_empty() => Err("it is empty".to_owned()),
        true => Err("its keys are no texts; a dict goes from tokens to indices, not the other way".to_owned()),
    }
}

fn of_tokens(pickle: &Pickle<'_>, tokens: &[Id]) -> Result<Vocabulary, String> {
    let numbered = tokens.iter().zip(0..).map(|(&token, index)| match pickle.text(token) {
        Some(token) => Ok((token, index)),
        None => Err(format!("it is a list whose item {index} is {}, and not a token", pickle.describe(token))),
    });
    let vocabulary: Vocabulary = numbered.collect::<Result<_, _>>()?;
    if vocabulary.is_empty() { Err("it is an empty list".to_owned()) } else { Ok(vocabulary) }
}

/// The state of torchtext's C++ class: `(version, [default index] or [], tokens, [])`.
fn of_torchtext(pickle: &Pickle<'_>, fields: &[Id]) -> Option<Result<Vocabulary, String>> {
    let &[version, default, tokens, _] = fields else { return None };
    pickle.text(version)?;
    let default = pickle.sequence(default)?;
    let tokens = of_tokens(pickle, pickle.sequence(tokens)?);
    // Unlike a dict, it raises for an unknown token where it has `<unk>` and no default; ours is kinder.
    Some(tokens.map(|vocabulary| match default.first().and_then(|&index| pickle.int(index)) {
        Some(index) => vocabulary.with_unknown(index),
        None => vocabulary,
    }))
}

/// The entries of a `Counter`, which is made from a dict.
fn counted<'p>(pickle: &'p Pickle<'_>, id: Id) -> Option<&'p [(Id, Id)]> {
    let object = pickle.object(id).filter(|object| is_named(pickle, object.maker, "collections", "Counter"))?;
    pickle.entries(*pickle.sequence(object.arguments)?.first()?)
}

/// What a `defaultdict` gives for a key that it hasn't got.
fn default_of(pickle: &Pickle<'_>, dict: &Object) -> Default {
    let is_default_dict = is_named(pickle, dict.maker, "collections", "defaultdict");
    let factory = pickle.sequence(dict.arguments).and_then(|arguments| arguments.first()).filter(|_| is_default_dict);
    match factory {
        None => Default::Raises,
        Some(&factory) => made_by(pickle, factory),
    }
}

fn made_by(pickle: &Pickle<'_>, factory: Id) -> Default {
    // Protocol 2 calls Python's int by the name that it had in Python 2.
    let is_int = |id| INT.iter().any(|(module, name)| is_named(pickle, id, module, name));
    if matches!(pickle[factory], Node::None) {
        return Default::Raises;
    }
    if is_int(factory) || is_named(pickle, factory, "torchtext.vocab", "_default_unk_index") {
        return Default::Index(0);
    }
    // functools.partial(int, 5): its state is the function, its arguments, and two dicts.
    let partial = pickle.object(factory).filter(|made| is_named(pickle, made.maker, "functools", "partial"));
    let state = partial.and_then(|partial| pickle.sequence(partial.state?));
    if let Some(&[function, arguments, ..]) = state
        && is_int(function)
        && let Some(&[index]) = pickle.sequence(arguments)
        && let Some(index) = pickle.int(index)
    {
        return Default::Index(index);
    }
    Default::Function(pickle.describe(factory))
}

fn is_named(pickle: &Pickle<'_>, id: Id, module: &str, name: &str) -> bool {
    matches!(pickle[id], Node::Global { module: its, name: called } if its == module && called == name)
}

// === impl Vocabulary ===

impl Vocabulary {
    fn with_default(self, default: Default) -> Result<Self, String> {
        match default {
            Default::Raises => Ok(self),
            Default::Index(index) => Ok(self.with_unknown(index)),
            // `<unk>` is what such a function gives in torchtext.
            Default::Function(_) if self.unknown.is_some() => Ok(self),
            Default::Function(name) => Err(format!(
                "it is a defaultdict whose default comes from {name}, which is Python code; give it a token \"<unk>\", or make it a defaultdict(int)"
            )),
        }
    }
}
