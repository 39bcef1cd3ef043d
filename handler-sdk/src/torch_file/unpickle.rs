//! A pickle, read as the description of one tensor: nothing of what it names is ever called.

use std::collections::HashMap;
use std::rc::Rc;

use super::view::STORAGES;
use super::view::Storage;
use super::view::View;

/// What stands on the pickle's stack. Copies share what they hold, so that a pickle can't multiply it.
#[derive(Debug, Clone)]
enum Value {
    Mark,
    /// `None`, a number with a fraction: nothing that a tensor is described by.
    Other(&'static str),
    Flag,
    Int(i64),
    Text(Rc<str>),
    /// A class or function, by its full name.
    Global(Rc<str>),
    Tuple(Rc<[Self]>),
    /// Its items are not kept.
    Dict,
    /// As a dict's.
    List,
    Storage(Rc<Storage>),
    Tensor(Rc<View>),
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
}

/// How many steps a pickle may have. A tensor's has about 40; values that are nested go no deeper than that.
const MOST_STEPS: usize = 1000;

/// The tensor that the pickle describes, or what it is instead.
pub(super) fn unpickle(pickle: &[u8]) -> Result<View, String> {
    let mut machine = Machine { rest: pickle, stack: Vec::new(), memo: HashMap::new() };
    for _ in 0..MOST_STEPS {
        if machine.step()? {
            return match machine.pop()? {
                Value::Tensor(view) => Ok(View::clone(&view)),
                other => Err(format!("holds {}, not a tensor", other.describe())),
            };
        }
    }
    // What has come first is the outermost.
    match machine.stack.first() {
        Some(first @ (Value::Dict | Value::List)) => Err(format!("holds {}, not a tensor", first.describe())),
        _ => Err("holds more than one tensor".to_owned()),
    }
}

// === impl Machine ===

impl Machine<'_> {
    /// Takes one step; true at the end.
    fn step(&mut self) -> Result<bool, String> {
        let [code] = self.take()?;
        match code {
            b'.' => return Ok(true),
            // The protocol, and frames, which say nothing.
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.stack.push(Value::Mark),
            b'N' => self.stack.push(Value::Other("None")),
            0x88 | 0x89 => self.stack.push(Value::Flag),
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = u8::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                self.take::<8>()?;
                self.stack.push(Value::Other("a number"));
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take()?);
                self.text(length)?;
            }
            0x8c => {
                let length = u8::from_le_bytes(self.take()?);
                self.text(length.into())?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(format!("{module}.{name}").into()));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.stack.push(Value::Global(format!("{module}.{name}").into()));
                }
                _ => return Err(damaged()),
            },
            b'q' => {
                let place = u8::from_le_bytes(self.take()?);
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.take()?);
                self.remember(place)?;
            }
            0x94 => self.remember(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))?,
            b'h' => {
                let place = u8::from_le_bytes(self.take()?);
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.take()?);
                self.recall(place)?;
            }
            b')' => self.stack.push(Value::Tuple(Rc::new([]))),
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or_else(damaged)?;
                let items: Rc<[Value]> = self.stack.drain(start..).collect();
                self.stack.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.since_mark()?;
                self.stack.push(Value::Tuple(items.into()));
            }
            b'}' => self.stack.push(Value::Dict),
            b']' => self.stack.push(Value::List),
            // Items of a dict or a list, and the state of an object.
            b'a' | b'b' => drop(self.pop()?),
            b's' => drop((self.pop()?, self.pop()?)),
            b'e' | b'u' => drop(self.since_mark()?),
            b'Q' => {
                let storage = storage(&self.pop()?)?;
                self.stack.push(Value::Storage(Rc::new(storage)));
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.stack.push(call(&function, &arguments)?);
            }
            other => return Err(format!("holds a pickle with the step {other:#04x}, which no tensor has")),
        }
        Ok(false)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, length: usize) -> Result<&str, String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(damaged)?;
        self.rest = rest;
        std::str::from_utf8(taken).map_err(|_| damaged())
    }

    fn line(&mut self) -> Result<String, String> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').ok_or_else(damaged)?;
        let line = self.bytes(length)?.to_owned();
        self.take::<1>()?;
        Ok(line)
    }

    fn text(&mut self, length: u32) -> Result<(), String> {
        let text = self.bytes(usize::try_from(length).map_err(|_| damaged())?)?.into();
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// A whole number of up to 8 bytes.
    fn long(&mut self) -> Result<(), String> {
        let [length] = self.take()?;
        let (taken, rest) = self.rest.split_at_checked(length.into()).ok_or_else(damaged)?;
        self.rest = rest;
        let negative = taken.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        value.get_mut(..taken.len()).ok_or_else(damaged)?.copy_from_slice(taken);
        self.stack.push(Value::Int(i64::from_le_bytes(value)));
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let value = self.stack.last().ok_or_else(damaged)?;
        self.memo.insert(place, value.clone());
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        self.stack.push(self.memo.get(&place).ok_or_else(damaged)?.clone());
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(damaged)
    }

    /// Takes what came since the last mark.
    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or_else(damaged)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }
}

/// What a function of PyTorch would make of its arguments, for the few that make tensors.
fn call(function: &Value, arguments: &Value) -> Result<Value, String> {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else {
        return Err(damaged());
    };
    match (&**name, &**arguments) {
        // Hooks come last but for bits that only complex and negated tensors have.
        (
            "torch._utils._rebuild_tensor_v2",
            [Value::Storage(storage), Value::Int(offset), shape, strides, Value::Flag, _],
        ) => {
            let view = View::new(Storage::clone(storage), *offset, &ints(shape)?, &ints(strides)?)?;
            Ok(Value::Tensor(Rc::new(view)))
        }
        ("torch._utils._rebuild_parameter", [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        ("collections.OrderedDict", _) => Ok(Value::Dict),
        _ => Err(format!("holds what `{name}` makes, and only dense tensors are read")),
    }
}

/// From `('storage', torch.FloatStorage, key, place, length)`.
fn storage(id: &Value) -> Result<Storage, String> {
    let Value::Tuple(id) = id else { return Err(damaged()) };
    let [_, Value::Global(class), Value::Text(key), ..] = &**id else { return Err(damaged()) };
    let name = class.strip_prefix("torch.").unwrap_or(class);
    match STORAGES.iter().find(|(known, _)| *known == name) {
        Some((_, dtype)) => Ok(Storage { key: Rc::clone(key), dtype: *dtype }),
        None => Err(format!("holds a tensor over a {name}, a type that isn't read")),
    }
}

fn ints(value: &Value) -> Result<Vec<i64>, String> {
    let Value::Tuple(items) = value else { return Err(damaged()) };
    let int = |item: &Value| match item {
        Value::Int(value) => Ok(*value),
        _ => Err(damaged()),
    };
    items.iter().map(int).collect()
}

fn damaged() -> String {
    "holds a pickle that describes no tensor".to_owned()
}

// === impl Value ===

impl Value {
    fn describe(&self) -> &'static str {
        match self {
            Self::Dict => "a dict",
            Self::List => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Text(_) => "a text",
            Self::Int(_) => "a number",
            Self::Flag => "True or False",
            Self::Other(what) => what,
            Self::Global(_) => "a class",
            Self::Mark | Self::Storage(_) => "a part of a tensor",
            Self::Tensor(_) => "a tensor",
        }
    }
}
