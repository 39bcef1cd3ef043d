//! Python's pickles, looked at and never run.
//!
//! A pickle is a program that makes objects by calling what it names.
//! Here no call takes place: the name and the arguments are what is kept, and a reader looks for the data in them.
//!
//! A crate for this would have to keep the state of classes it doesn't know, and to read a memo without copying what it stands for.
//! None does both, so this is one: all objects lie in one list and know each other by their places in it, so that nothing is copied, nothing recurses, and a hostile file costs no more than its [`limits`](read::Limits).

mod read;
mod torch_file;

pub(super) use torch_file::load;

use std::ops::Index;

/// All objects of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

/// An object's place in the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

/// One object.
#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Int(i64),
    Text(&'a str),
    /// A list, a tuple or a set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function by its name.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// What a call would give.
    Object(Box<Object>),
    /// Anything that no vocabulary is made of: a float, a tensor, bytes.
    Other,
}

/// An object that a pickle would have Python make.
#[derive(Debug)]
pub(super) struct Object {
    /// The class or function.
    pub(super) maker: Id,
    /// A tuple.
    pub(super) arguments: Id,
    /// What it was given to restore itself from: mostly a dict of its attributes.
    pub(super) state: Option<Id>,
    /// What it holds as a dict.
    pub(super) entries: Vec<(Id, Id)>,
    /// What it holds as a list.
    pub(super) items: Vec<Id>,
}

// === impl Pickle ===

impl<'a> Pickle<'a> {
    /// The object that was pickled.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self[id] {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self[id] {
            Node::Int(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match &self[id] {
            Node::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn object(&self, id: Id) -> Option<&Object> {
        match &self[id] {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The entries of a dict, or of an object that is one.
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self[id] {
            Node::Dict(entries) => Some(entries),
            Node::Object(object) if !object.entries.is_empty() => Some(&object.entries),
            _ => None,
        }
    }

    /// The value of a dict under a key; the last one, as Python keeps it.
    pub(super) fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let mut entries = self.entries(dict)?.iter().rev();
        entries.find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    /// What the object is, in Python's words.
    pub(super) fn describe(&self, id: Id) -> String {
        match &self[id] {
            Node::None => "None".to_owned(),
            Node::Int(_) => "an int".to_owned(),
            Node::Text(_) => "a str".to_owned(),
            Node::Sequence(_) => "a list".to_owned(),
            Node::Dict(_) => "a dict".to_owned(),
            Node::Global { module, name } => format!("{module}.{name}"),
            Node::Object(object) => match self[object.maker] {
                Node::Global { module, name } => format!("a {module}.{name}"),
                _ => "an object".to_owned(),
            },
            Node::Other => "something else".to_owned(),
        }
    }
}

impl<'a> Index<Id> for Pickle<'a> {
    type Output = Node<'a>;

    fn index(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }
}

#[cfg(test)]
mod tests;
