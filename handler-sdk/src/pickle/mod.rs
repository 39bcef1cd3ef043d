//! Python's pickles, looked at and never run.
//!
//! A pickle is a program that makes objects by calling what it names.
//! Here no call takes place: the name and the arguments are what is kept, and who looks at them finds the data: vocabularies the feature `text`, tensors the feature `torch-file`.
//!
//! A crate for this would have to keep the state of classes it doesn't know, and to read a memo without copying what it stands for.
//! None does both, so this is one: all objects lie in one list and know each other by their places in it, so that nothing is copied, nothing recurses, and a hostile file costs no more than its [`limits`](Limits).

mod read;
mod records;

// Only a tensor's reader tells one fault from another.
#[cfg(any(test, feature = "torch-file"))]
pub(crate) use read::Fault;
pub(crate) use read::Limits;
pub(crate) use read::read;
pub(crate) use records::Records;
pub(crate) use records::is_before_zip;
pub(crate) use records::is_zip;

use std::ops::Index;

/// All objects of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

/// An object's place in the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// One object.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    None,
    Int(i64),
    Bool,
    Float,
    Text(&'a str),
    /// A list or a set.
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function by its name.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// What a call would give.
    Object(Box<Object>),
    /// What lies outside the pickle, under this name: the numbers of a tensor.
    Outside(Id),
    /// Anything that nobody looks for: bytes, an int of more than 64 bits, a text that isn't one.
    Other,
}

/// An object that a pickle would have Python make.
#[derive(Debug)]
pub(crate) struct Object {
    /// The class or function.
    pub(crate) maker: Id,
    /// A tuple.
    pub(crate) arguments: Id,
    /// What it was given to restore itself from: mostly a dict of its attributes.
    pub(crate) state: Option<Id>,
    /// What it holds as a dict.
    pub(crate) entries: Vec<(Id, Id)>,
    /// What it holds as a list.
    pub(crate) items: Vec<Id>,
}

// === impl Pickle ===

impl<'a> Pickle<'a> {
    /// The object that was pickled.
    pub(crate) fn root(&self) -> Id {
        self.root
    }

    /// All objects, in the order in which Python would make them.
    pub(crate) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    pub(crate) fn text(&self, id: Id) -> Option<&'a str> {
        match self[id] {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        match self[id] {
            Node::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The items of a list, a tuple or a set.
    pub(crate) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match &self[id] {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match &self[id] {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn object(&self, id: Id) -> Option<&Object> {
        match &self[id] {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The entries of a dict, or of an object that is one.
    pub(crate) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self[id] {
            Node::Dict(entries) => Some(entries),
            Node::Object(object) if !object.entries.is_empty() => Some(&object.entries),
            _ => None,
        }
    }

    /// The value of a dict under a key; the last one, as Python keeps it.
    pub(crate) fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let mut entries = self.entries(dict)?.iter().rev();
        entries.find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    /// What the object is, in Python's words.
    pub(crate) fn describe(&self, id: Id) -> String {
        match &self[id] {
            Node::None => "None".to_owned(),
            Node::Int(_) => "an int".to_owned(),
            Node::Bool => "a bool".to_owned(),
            Node::Float => "a float".to_owned(),
            Node::Text(_) => "a str".to_owned(),
            Node::List(_) => "a list".to_owned(),
            Node::Tuple(_) => "a tuple".to_owned(),
            Node::Dict(_) => "a dict".to_owned(),
            Node::Global { module, name } => format!("{module}.{name}"),
            Node::Object(object) => match self[object.maker] {
                Node::Global { module, name } => format!("a {module}.{name}"),
                _ => "an object".to_owned(),
            },
            Node::Outside(_) | Node::Other => "something else".to_owned(),
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
