//! The machine that a pickle is a program for, as far as vocabularies and tensors need it: protocols 2 to 5.

use std::fmt;

use super::Id;
use super::Node;
use super::Object;
use super::Pickle;

/// How much a pickle may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Instructions; each makes one object at most, and a token of a vocabulary takes three.
    pub(crate) steps: usize,
    /// Objects that Python would call something for, which take the most memory.
    pub(crate) objects: usize,
}

/// Why a pickle isn't read.
#[derive(Debug)]
pub(crate) enum Fault<'a> {
    /// It has more instructions than it may have. What they have come to has the outermost object as its root, if that is begun.
    TooLong { steps: usize, outermost: Option<Pickle<'a>>, place: usize },
    /// An instruction that isn't followed here.
    Step { code: u8, place: usize },
    /// It is no pickle, or asks for too much.
    Broken { found: String, place: usize },
}

/// Reads one pickle; gives it with the bytes that follow it.
pub(crate) fn read(data: &[u8], limits: Limits) -> Result<(Pickle<'_>, &[u8]), Fault<'_>> {
    let mut machine = Machine {
        data,
        place: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        objects: 0,
        limits,
    };
    for _ in 0..limits.steps {
        match machine.step() {
            Ok(Next::Step) => {}
            Ok(Next::End(root)) => return Ok((Pickle { nodes: machine.nodes, root }, &data[machine.place..])),
            Ok(Next::Unknown(code)) => return Err(Fault::Step { code, place: machine.place }),
            Err(found) => return Err(Fault::Broken { found, place: machine.place }),
        }
    }
    // What lies below all marks will hold the rest.
    let outermost = machine.stack.first().copied().filter(|_| machine.marks.first() != Some(&0));
    let nodes = machine.nodes;
    let outermost = outermost.map(|root| Pickle { nodes, root });
    Err(Fault::TooLong { steps: limits.steps, outermost, place: machine.place })
}

/// What follows an instruction.
enum Next {
    Step,
    End(Id),
    Unknown(u8),
}

struct Machine<'a> {
    data: &'a [u8],
    place: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    /// By their keys, which Python counts up.
    memo: Vec<Option<Id>>,
    objects: usize,
    limits: Limits,
}

// === impl Fault ===

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self {
            Self::TooLong { steps, place, .. } => {
                write!(f, "it has more than {steps} instructions")?;
                place
            }
            Self::Step { code, place } => {
                write!(f, "the instruction {code:#04x} isn't one of a vocabulary's or a tensor's")?;
                place
            }
            Self::Broken { found, place } => {
                write!(f, "{found}")?;
                place
            }
        };
        write!(f, ", at byte {place}")
    }
}

// === impl Machine ===

impl<'a> Machine<'a> {
    fn step(&mut self) -> Result<Next, String> {
        let code = self.byte()?;
        match code {
            b'.' => return self.pop().map(Next::End),
            // PROTO and FRAME: how it was written.
            0x80 => self.bytes(1).map(drop),
            0x95 => self.bytes(8).map(drop),
            // Constants.
            b'N' => self.push(Node::None),
            0x88 | 0x89 => self.push(Node::Bool),
            b'K' => self.number(1, false),
            b'M' => self.number(2, false),
            b'J' => self.number(4, true),
            0x8a => {
                let length = self.length(1)?;
                self.number(length, true)
            }
            0x8b => {
                let length = self.length(4)?;
                self.number(length, true)
            }
            b'G' => {
                self.bytes(8)?;
                self.push(Node::Float)
            }
            // Texts and bytes, by the width of their lengths.
            0x8c | b'U' => self.text(1),
            b'X' | b'T' => self.text(4),
            0x8d => self.text(8),
            b'C' => self.length(1).and_then(|length| self.skip(length)),
            b'B' => self.length(4).and_then(|length| self.skip(length)),
            0x8e | 0x96 => self.length(8).and_then(|length| self.skip(length)),
            // Lists, tuples, sets.
            b']' | 0x8f => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.take(usize::from(code - 0x84))?;
                self.push(Node::Tuple(items))
            }
            b't' => {
                let items = self.take_marked()?;
                self.push(Node::Tuple(items))
            }
            b'l' | 0x91 => {
                let items = self.take_marked()?;
                self.push(Node::List(items))
            }
            b'a' => {
                let items = self.take(1)?;
                self.extend(items)
            }
            b'e' | 0x90 => {
                let items = self.take_marked()?;
                self.extend(items)
            }
            // Dicts.
            b'}' => self.push(Node::Dict(Vec::new())),
            b'd' => {
                let entries = self.take_marked()?;
                self.push(Node::Dict(pairs(&entries)))
            }
            b's' => {
                let entries = self.take(2)?;
                self.insert(&entries)
            }
            b'u' => {
                let entries = self.take_marked()?;
                self.insert(&entries)
            }
            // What Python would call.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global { module, name })
            }
            0x93 => {
                let [module, name] = self.take_array()?;
                match (&self.nodes[module.0 as usize], &self.nodes[name.0 as usize]) {
                    (&Node::Text(module), &Node::Text(name)) => self.push(Node::Global { module, name }),
                    _ => Err("a class isn't named by texts".to_owned()),
                }
            }
            b'R' | 0x81 => {
                let [maker, arguments] = self.take_array()?;
                self.make(maker, arguments)
            }
            0x92 => {
                let [maker, arguments, _] = self.take_array()?;
                self.make(maker, arguments)
            }
            b'b' => {
                let [state] = self.take_array()?;
                // Of anything else the state is nothing that is looked for.
                if let Node::Object(object) = self.top()? {
                    object.state = Some(state);
                }
                Ok(())
            }
            b'Q' => {
                let name = self.pop()?;
                self.push(Node::Outside(name))
            }
            // The stack and the memo.
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.take_marked().map(drop),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
                Ok(())
            }
            b'q' => self.length(1).and_then(|key| self.remember(key)),
            b'r' => self.length(4).and_then(|key| self.remember(key)),
            0x94 => self.remember(self.memo.len()),
            b'h' => self.length(1).and_then(|key| self.recall(key)),
            b'j' => self.length(4).and_then(|key| self.recall(key)),
            _ => return Ok(Next::Unknown(code)),
        }?;
        Ok(Next::Step)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let bytes = self.data[self.place..].get(..count).ok_or("it ends too early")?;
        self.place += count;
        Ok(bytes)
    }

    /// A length or a key in so many bytes, the lowest first.
    fn length(&mut self, width: usize) -> Result<usize, String> {
        let bytes = self.bytes(width)?.iter().rev();
        let value = bytes.fold(0_u64, |value, &byte| (value << 8) | u64::from(byte));
        usize::try_from(value).map_err(|error| error.to_string())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.data[self.place..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("it ends too early")?;
        self.place += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|error| error.to_string())
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let bytes = self.bytes(length)?;
        // Python writes half a surrogate pair in its own way, which no text of a client can hold.
        self.push(std::str::from_utf8(bytes).map_or(Node::Other, Node::Text))
    }

    /// An int in so many bytes, the lowest first, in two's complement where it has a sign.
    fn number(&mut self, width: usize, signed: bool) -> Result<(), String> {
        let bytes = self.bytes(width)?;
        if width > 8 {
            return self.push(Node::Other);
        }
        let negative = signed && bytes.last().is_some_and(|&byte| byte >= 0x80);
        let start = if negative { -1 } else { 0 };
        let value = bytes.iter().rev().fold(start, |value: i64, &byte| (value << 8) | i64::from(byte));
        self.push(Node::Int(value))
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.bytes(count)?;
        self.push(Node::Other)
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), String> {
        let id = u32::try_from(self.nodes.len()).map_err(|error| error.to_string())?;
        self.nodes.push(node);
        self.stack.push(Id(id));
        Ok(())
    }

    fn make(&mut self, maker: Id, arguments: Id) -> Result<(), String> {
        self.objects += 1;
        if self.objects > self.limits.objects {
            return Err(format!("it holds more than {} objects", self.limits.objects));
        }
        let object = Object { maker, arguments, state: None, entries: Vec::new(), items: Vec::new() };
        self.push(Node::Object(Box::new(object)))
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.take_array().map(|[id]| id)
    }

    fn take_array<const COUNT: usize>(&mut self) -> Result<[Id; COUNT], String> {
        let ids = self.take(COUNT)?;
        ids.try_into().map_err(|_| "it takes too little".to_owned())
    }

    /// The topmost of the stack, without reaching below the last mark.
    fn take(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= floor => Ok(self.stack.split_off(height)),
            _ => Err("it takes more from its stack than it has put there".to_owned()),
        }
    }

    fn take_marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("it takes what follows a mark, and there is none")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Node<'a>, String> {
        let top = self.stack.last().ok_or("its stack is empty")?;
        Ok(&mut self.nodes[top.0 as usize])
    }

    fn extend(&mut self, more: Vec<Id>) -> Result<(), String> {
        match self.top()? {
            Node::List(items) => items.extend(more),
            Node::Object(object) => object.items.extend(more),
            _ => return Err("it adds items to what is no list".to_owned()),
        }
        Ok(())
    }

    fn insert(&mut self, more: &[Id]) -> Result<(), String> {
        let more = pairs(more);
        match self.top()? {
            Node::Dict(entries) => entries.extend(more),
            Node::Object(object) => object.entries.extend(more),
            _ => return Err("it adds entries to what is no dict".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, key: usize) -> Result<(), String> {
        let top = *self.stack.last().ok_or("its stack is empty")?;
        if key >= self.limits.steps {
            return Err(format!("it puts aside {key} objects"));
        }
        if key >= self.memo.len() {
            self.memo.resize(key + 1, None);
        }
        self.memo[key] = Some(top);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), String> {
        let known = self.memo.get(key).copied().flatten();
        self.stack.push(known.ok_or_else(|| format!("it recalls {key}, which it hasn't put aside"))?);
        Ok(())
    }
}

fn pairs(ids: &[Id]) -> Vec<(Id, Id)> {
    ids.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}
