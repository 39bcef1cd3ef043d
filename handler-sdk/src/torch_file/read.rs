//! The reading: a pickle that describes one tensor, and the record of numbers that it is a view of.

use std::io::Cursor;

use super::view::STORAGES;
use super::view::Storage;
use super::view::View;
use crate::Tensor;
use crate::pickle;
use crate::pickle::Fault;
use crate::pickle::Id;
use crate::pickle::Limits;
use crate::pickle::Node;
use crate::pickle::Object;
use crate::pickle::Pickle;
use crate::pickle::Records;

/// The order in which this machine has a number's bytes.
pub(super) const BYTE_ORDER: &str = if cfg!(target_endian = "big") { "big" } else { "little" };

/// The largest pickle that is looked at. A tensor's has some 300 bytes.
const PICKLE_LIMIT: u64 = 1 << 16;

/// A tensor's pickle has about 40 instructions, and calls of two or three functions.
const LIMITS: Limits = Limits { steps: 1000, objects: 1000 };

/// The tensor, or what the bytes are instead.
pub(super) fn load(bytes: &[u8]) -> Result<Tensor, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    if pickle::is_before_zip(bytes) {
        return Err("was written in the form before PyTorch 1.6, which isn't read".to_owned());
    }
    if !pickle::is_zip(bytes) {
        let start = &bytes[..bytes.len().min(32)];
        return Err(format!("begins with \"{}\", as nothing does that torch.save writes", start.escape_ascii()));
    }
    let mut records = Records::open(Cursor::new(bytes))?;
    if records.has("constants.pkl") {
        return Err("is a TorchScript module, not a tensor".to_owned());
    }
    if records.has("byteorder") {
        let order = records.read("byteorder", 16)?;
        if order.trim_ascii() != BYTE_ORDER.as_bytes() {
            return Err(format!("was written by a machine whose byte order is {}", order.escape_ascii()));
        }
    }
    let view = view(&records.pickle(PICKLE_LIMIT)?)?;
    // What is stored can't be longer than the whole file.
    let storage = records.read(&format!("data/{}", view.storage()), bytes.len() as u64)?;
    view.tensor(storage)
}

/// The tensor that the pickle describes, or what it is instead.
fn view(data: &[u8]) -> Result<View, String> {
    let (pickle, is_whole) = match pickle::read(data, LIMITS) {
        Ok((pickle, _)) => (pickle, true),
        Err(Fault::TooLong { outermost: Some(pickle), .. }) => (pickle, false),
        Err(Fault::TooLong { outermost: None, .. }) => return Err(several()),
        Err(Fault::Step { code, .. }) => {
            return Err(format!("holds a pickle with the step {code:#04x}, which no tensor has"));
        }
        Err(Fault::Broken { .. }) => return Err(damaged()),
    };
    // What isn't read is named wherever it lies.
    for node in pickle.nodes() {
        match node {
            Node::Outside(name) => drop(storage(&pickle, *name)?),
            Node::Object(object) => drop(made(&pickle, object)?),
            _ => {}
        }
    }
    let root = pickle.root();
    let view = pickle.object(root).map(|object| made(&pickle, object)).transpose()?.flatten();
    match view {
        Some(view) if is_whole => Ok(view),
        None if is_whole || is_collection(&pickle, root) => {
            Err(format!("holds {}, not a tensor", describe(&pickle, root)))
        }
        _ => Err(several()),
    }
}

/// What a function of PyTorch would make of its arguments: a tensor, or a dict without its entries, which is `None`.
fn made(pickle: &Pickle<'_>, object: &Object) -> Result<Option<View>, String> {
    let Node::Global { module, name } = pickle[object.maker] else { return Err(damaged()) };
    let arguments = pickle.tuple(object.arguments).ok_or_else(damaged)?;
    let unread = || format!("holds what `{module}.{name}` makes, and only dense tensors are read");
    match (module, name, arguments) {
        // Hooks come last but for bits that only complex and negated tensors have.
        ("torch._utils", "_rebuild_tensor_v2", &[numbers, offset, shape, strides, gradient, _]) => {
            match (&pickle[numbers], &pickle[offset], &pickle[gradient]) {
                (Node::Outside(name), Node::Int(offset), Node::Bool) => {
                    let storage = storage(pickle, *name)?;
                    View::new(storage, *offset, &ints(pickle, shape)?, &ints(pickle, strides)?).map(Some)
                }
                _ => Err(unread()),
            }
        }
        // An argument is there before what is called with it, so this ends.
        ("torch._utils", "_rebuild_parameter", &[tensor, ..]) => {
            let tensor = pickle.object(tensor).ok_or_else(unread)?;
            made(pickle, tensor)?.ok_or_else(unread).map(Some)
        }
        ("collections", "OrderedDict", _) => Ok(None),
        _ => Err(unread()),
    }
}

/// From `('storage', torch.FloatStorage, key, place, length)`.
fn storage(pickle: &Pickle<'_>, name: Id) -> Result<Storage, String> {
    let Some(&[_, class, key, ..]) = pickle.tuple(name) else { return Err(damaged()) };
    let (&Node::Global { module, name: class }, Some(key)) = (&pickle[class], pickle.text(key)) else {
        return Err(damaged());
    };
    let known = STORAGES.iter().find(|(known, _)| module == "torch" && *known == class);
    known.map(|(_, dtype)| Storage { key: key.to_owned(), dtype: *dtype }).ok_or_else(|| {
        let class = format!("{module}.{class}");
        format!("holds a tensor over a {}, a type that isn't read", class.strip_prefix("torch.").unwrap_or(&class))
    })
}

fn ints(pickle: &Pickle<'_>, tuple: Id) -> Result<Vec<i64>, String> {
    let items = pickle.tuple(tuple).ok_or_else(damaged)?;
    items.iter().map(|&item| pickle.int(item).ok_or_else(damaged)).collect()
}

fn is_collection(pickle: &Pickle<'_>, id: Id) -> bool {
    // The objects that are read and no tensors are dicts.
    matches!(pickle[id], Node::Dict(_) | Node::List(_) | Node::Object(_))
}

fn describe(pickle: &Pickle<'_>, id: Id) -> String {
    match &pickle[id] {
        Node::Int(_) | Node::Float => "a number".to_owned(),
        Node::Bool => "True or False".to_owned(),
        Node::Text(_) => "a text".to_owned(),
        Node::Global { .. } => "a class".to_owned(),
        Node::Object(_) => "a dict".to_owned(),
        Node::Outside(_) => "a part of a tensor".to_owned(),
        _ => pickle.describe(id),
    }
}

fn several() -> String {
    "holds more than one tensor".to_owned()
}

fn damaged() -> String {
    "holds a pickle that describes no tensor".to_owned()
}
