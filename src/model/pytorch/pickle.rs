//! The pickle within a checkpoint, read as data.
//!
//! A pickle is a program for a stack machine that may call any Python function. This machine
//! supports the instructions that torch.save writes, the few names that tensors in dictionaries
//! need, and the classes of values that are commonly stored next to them, which it skips
//! ([`super::skipped`]). It refuses anything else by name. Nothing is ever called.

use super::skipped::is_skipped;
use super::tensor::{Dtype, Storage, Tensor};
use crate::pickle::{Cursor, Id, Result, shown};
use std::collections::HashMap;
use std::rc::Rc;

/// The largest number of values; a checkpoint of 500 tensors with its optimizer has about 20,000.
const MOST_VALUES: usize = 1 << 20;
/// The largest number of tensors; a checkpoint of two networks with their optimizer has 2,000.
const MOST_TENSORS: usize = 1 << 16;
/// The number of arguments of a call that are examined; torch.save's calls have six or seven.
const MOST_ARGUMENTS: usize = 8;

/// The largest number of dimensions of a tensor.
pub const MOST_DIMENSIONS: usize = 8;

const BAD_TENSOR: &str = "describes a tensor in an impossible way";

/// A value. Values that are never read from a checkpoint (floats, flags) keep no content.
#[derive(Debug)]
enum Value {
    Other,
    Int(i64),
    Text(Rc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Storage),
    Tensor(Box<Tensor>),
    /// An object of a skipped class, whatever it holds.
    Skipped,
}

/// The functions and classes that a pickle may name.
#[derive(Clone, Copy, Debug)]
enum Name {
    Dict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
    Skipped,
}

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Parses `bytes`, which begin with a pickle.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_first(bytes).map(|(pickle, _)| pickle)
    }

    /// Parses like [`Pickle::parse`] and also returns the length of the pickle.
    pub fn parse_first(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut machine = Machine { cursor: Cursor::new(bytes), values: Vec::new(), tensors: 0 };
        let root = machine.run()?;
        let length = machine.cursor.position();
        Ok((Self { values: machine.values, root }, length))
    }

    /// Returns its storages, each as often as it is referenced.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.values.iter().filter_map(|value| {
            if let Value::Storage(storage) = value { Some(storage) } else { None }
        })
    }

    /// Returns the strings of a list of strings; `None` if the root is something else.
    pub fn texts(&self) -> Option<Vec<&str>> {
        let Value::List(items) = &self.values[self.root as usize] else { return None };
        let text = |id: &Id| {
            if let Value::Text(text) = &self.values[*id as usize] { Some(&**text) } else { None }
        };
        items.iter().map(text).collect()
    }

    /// Checks whether the root is the integer `number`.
    pub fn is_number(&self, number: i64) -> bool {
        matches!(self.values[self.root as usize], Value::Int(n) if n == number)
    }

    /// Returns the root value.
    pub fn root(&self) -> Id {
        self.root
    }

    /// Returns the entries of a dictionary whose keys are strings; of two with the same key the
    /// last one counts. `None` if the value isn't a dictionary.
    pub fn dict(&self, id: Id) -> Option<HashMap<&str, Id>> {
        let Value::Dict(entries) = &self.values[id as usize] else { return None };
        let text = |id: Id| {
            if let Value::Text(text) = &self.values[id as usize] { Some(&**text) } else { None }
        };
        Some(entries.iter().filter_map(|(key, value)| Some((text(*key)?, *value))).collect())
    }

    /// Returns a tensor; `None` if the value is something else.
    pub fn tensor(&self, id: Id) -> Option<&Tensor> {
        if let Value::Tensor(tensor) = &self.values[id as usize] { Some(tensor) } else { None }
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Vec<Value>,
    /// Number of tensors among the values. It is limited because a few bytes of a pickle create a
    /// tensor that takes hundreds here.
    tensors: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let instruction = self.cursor.number(1)? as u8;
            match instruction {
                0x80 => self.protocol()?,
                b'.' => return self.cursor.pop(),
                b'(' => self.cursor.mark(),
                // None, True, False, a float.
                b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
                b'G' => {
                    self.cursor.take(8)?;
                    self.push(Value::Other)?;
                }
                b'K' => self.whole(1)?,
                b'M' => self.whole(2)?,
                b'J' => {
                    let number = self.cursor.signed()?;
                    self.push(Value::Int(number))?;
                }
                0x8a => {
                    let number = self.cursor.long()?;
                    self.push(number.map_or(Value::Other, Value::Int))?;
                }
                b'X' | b'T' => self.text(4)?,
                // Strings of Python 2.
                b'U' => self.text(1)?,
                b'c' => self.name()?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.cursor.pop_to_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                0x85..=0x87 => {
                    let items = self.cursor.pop_many(usize::from(instruction - 0x84))?;
                    self.push(Value::Tuple(items))?;
                }
                b']' => self.push(Value::List(Vec::new()))?,
                b'a' => {
                    let item = self.cursor.pop()?;
                    self.extend_list(&[item])?;
                }
                b'e' => {
                    let items = self.cursor.pop_to_mark()?;
                    self.extend_list(&items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b's' => {
                    let (value, key) = (self.cursor.pop()?, self.cursor.pop()?);
                    self.extend_dict(&[key, value])?;
                }
                b'u' => {
                    let items = self.cursor.pop_to_mark()?;
                    self.extend_dict(&items)?;
                }
                b'q' => self.cursor.remember(1)?,
                b'r' => self.cursor.remember(4)?,
                b'h' => self.cursor.recall(1)?,
                b'j' => self.cursor.recall(4)?,
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                0x81 => {
                    let (_, class) = (self.cursor.pop()?, self.cursor.pop()?);
                    if !matches!(self.value(class), Value::Name(Name::Skipped)) {
                        return Err(unknown(instruction));
                    }
                    self.push(Value::Skipped)?;
                }
                // The state of an OrderedDict holds the version numbers of modules; skipped objects
                // may have any state.
                b'b' => {
                    self.cursor.pop()?;
                    let top = self.value(self.cursor.top()?);
                    self.expect(
                        matches!(top, Value::Dict(_) | Value::Skipped),
                        "sets the state of an object",
                    )?;
                }
                other => return Err(unknown(other)),
            }
        }
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        let text = self.cursor.text(bytes)?;
        self.push(Value::Text(text.into()))
    }

    fn expect(&self, holds: bool, otherwise: &str) -> Result<()> {
        if holds {
            Ok(())
        } else {
            Err(format!("{otherwise}, which a dictionary of tensors doesn't need; nothing was run"))
        }
    }

    fn whole(&mut self, bytes: usize) -> Result<()> {
        let number = self.cursor.number(bytes)?;
        self.push(Value::Int(number as i64))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.values.len() == MOST_VALUES {
            return Err(format!("holds more than {MOST_VALUES} values, which no checkpoint does"));
        }
        self.tensors += usize::from(matches!(value, Value::Tensor(_)));
        if self.tensors > MOST_TENSORS {
            return Err(format!(
                "holds more than {MOST_TENSORS} tensors, which no checkpoint does"
            ));
        }
        self.cursor.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn protocol(&mut self) -> Result<()> {
        match self.cursor.number(1)? {
            2 => Ok(()),
            other => Err(format!(
                "holds a pickle of protocol {other}; torch.save writes 2 unless told otherwise"
            )),
        }
    }

    /// Resolves the name of a function or class, which must be one of a short list.
    fn name(&mut self) -> Result<()> {
        let (module, name) = (self.cursor.line()?, self.cursor.line()?);
        let known = match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Name::Dict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Name::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Name::RebuildParameter,
            ("torch", "FloatStorage") => Name::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Name::Storage(Dtype::F64),
            ("torch", "HalfStorage") => Name::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Name::Storage(Dtype::Bf16),
            ("torch", "LongStorage") => Name::Storage(Dtype::Whole(8)),
            ("torch", "IntStorage") => Name::Storage(Dtype::Whole(4)),
            ("torch", "ShortStorage") => Name::Storage(Dtype::Whole(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => {
                Name::Storage(Dtype::Whole(1))
            }
            _ if is_skipped(module, name) => Name::Skipped,
            _ => {
                return Err(format!(
                    "asks for {}, which a dictionary of tensors doesn't need; nothing was run (if \
                     you trust the file, use PyTorch to save only its state dictionaries)",
                    shown(module, name)
                ));
            }
        };
        self.push(Value::Name(known))
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<()> {
        let top = self.cursor.top()?;
        match &mut self.values[top as usize] {
            Value::List(all) => all.extend(items),
            Value::Skipped => {}
            _ => return self.expect(false, "appends to something that isn't a list"),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<()> {
        let top = self.cursor.top()?;
        match &mut self.values[top as usize] {
            Value::Dict(entries) => {
                entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)))
            }
            Value::Skipped => {}
            _ => return self.expect(false, "sets items of something that isn't a dictionary"),
        }
        Ok(())
    }

    /// Returns the items of a tuple, up to the number that is examined; empty for anything else.
    fn items(&self, id: Id) -> Vec<&Value> {
        let Value::Tuple(items) = self.value(id) else { return Vec::new() };
        items.iter().take(MOST_ARGUMENTS).map(|item| self.value(*item)).collect()
    }

    /// Resolves ("storage", type, key, device, count), torch.save's reference to a tensor's values.
    /// Before PyTorch 1.6 a sixth item names another storage that this one is a view of; it must be
    /// None.
    fn storage(&mut self) -> Result<()> {
        let id = self.cursor.pop()?;
        let storage = match self.items(id)[..] {
            [
                Value::Text(kind),
                Value::Name(Name::Storage(dtype)),
                Value::Text(key),
                _,
                Value::Int(count),
            ]
            | [
                Value::Text(kind),
                Value::Name(Name::Storage(dtype)),
                Value::Text(key),
                _,
                Value::Int(count),
                Value::Other,
            ] if **kind == *"storage" && *count >= 0 => {
                Storage { key: key.clone(), dtype: *dtype, count: *count as u64 }
            }
            _ => return self.expect(false, "refers to something that isn't a tensor storage"),
        };
        self.push(Value::Storage(storage))
    }

    /// Interprets a call, which must create a dictionary or a tensor, or a skipped object.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, callee) = (self.cursor.pop()?, self.cursor.pop()?);
        let items = self.items(arguments);
        match (self.value(callee), &items[..]) {
            // A defaultdict has a function that creates missing values.
            (Value::Name(Name::Dict), [] | [Value::Name(Name::Skipped) | Value::Other]) => {
                self.push(Value::Dict(Vec::new()))
            }
            (Value::Name(Name::Skipped), _) => self.push(Value::Skipped),
            (
                Value::Name(Name::RebuildTensor),
                [
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                let offset = u64::try_from(*offset).map_err(|_| BAD_TENSOR)?;
                if shape.len() != strides.len() {
                    return Err(BAD_TENSOR.into());
                }
                let tensor = Tensor { storage: storage.clone(), offset, shape, strides };
                self.push(Value::Tensor(Box::new(tensor)))
            }
            (Value::Name(Name::RebuildParameter), [Value::Tensor(tensor), ..]) => {
                let tensor = tensor.clone();
                self.push(Value::Tensor(tensor))
            }
            _ => self.expect(false, "calls something in an unknown way"),
        }
    }

    /// Returns the elements of a shape or of strides.
    fn sizes(&self, ids: &[Id]) -> Result<Vec<usize>> {
        if ids.len() > MOST_DIMENSIONS {
            return Err(BAD_TENSOR.into());
        }
        let size = |id: &Id| {
            if let Value::Int(n) = self.value(*id) { usize::try_from(*n).ok() } else { None }
        };
        ids.iter().map(|id| size(id).ok_or_else(|| BAD_TENSOR.to_owned())).collect()
    }
}

fn unknown(instruction: u8) -> String {
    format!("holds an instruction (0x{instruction:02x}) that torch.save doesn't write")
}
