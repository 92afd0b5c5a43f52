//! The pickle within a checkpoint, as data. A pickle is a program for a stack machine that may call any function of Python;
//! this machine knows the instructions that torch.save writes and the few names that tensors in dictionaries need, and refuses
//! the rest by name. Nothing is ever called.

use super::tensor::{Dtype, Storage, Tensor};
use crate::pickle::{Cursor, Id, Result, shown};
use std::collections::HashMap;
use std::rc::Rc;

/// Most values that are kept; a checkpoint of 500 tensors and its optimizer has about 20,000.
const MOST_VALUES: usize = 1 << 20;
/// Most tensors; a checkpoint of two networks and their optimizer has 2,000.
const MOST_TENSORS: usize = 1 << 16;
/// Arguments of a call that are looked at: torch.save's have six or seven.
const MOST_ARGUMENTS: usize = 8;

/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

const BAD_TENSOR: &str = "describes a tensor in an impossible way";

/// A value. What no checkpoint is asked for (floats, flags) has no content here.
#[derive(Debug)]
enum Value {
    Other,
    Int(i64),
    Text(Rc<str>),
    Tuple(Vec<Id>),
    List,
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Storage),
    Tensor(Box<Tensor>),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug)]
enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut machine = Machine { cursor: Cursor::new(bytes), values: Vec::new(), tensors: 0 };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    /// The whole.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The entries of a dictionary whose keys are texts; of two with the same key the last one counts. `None`: no dictionary.
    pub fn dict(&self, id: Id) -> Option<HashMap<&str, Id>> {
        let Value::Dict(entries) = &self.values[id as usize] else { return None };
        let text = |id: Id| if let Value::Text(text) = &self.values[id as usize] { Some(&**text) } else { None };
        Some(entries.iter().filter_map(|(key, value)| Some((text(*key)?, *value))).collect())
    }

    /// A tensor; `None`: something else.
    pub fn tensor(&self, id: Id) -> Option<&Tensor> {
        if let Value::Tensor(tensor) = &self.values[id as usize] { Some(tensor) } else { None }
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Vec<Value>,
    /// How many of them are tensors: a few bytes of a pickle make one, which takes hundreds here.
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
                b'X' => {
                    let text = self.cursor.text(4)?;
                    self.push(Value::Text(text.into()))?;
                }
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
                b']' => self.push(Value::List)?,
                b'a' => {
                    self.cursor.pop()?;
                    self.top_is_list()?;
                }
                b'e' => {
                    self.cursor.pop_to_mark()?;
                    self.top_is_list()?;
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
                // The state of an OrderedDict holds version numbers of modules; anything else has no state here.
                b'b' => {
                    self.cursor.pop()?;
                    self.expect(matches!(self.value(self.cursor.top()?), Value::Dict(_)), "sets the state of an object")?;
                }
                other => return Err(format!("holds an instruction (0x{other:02x}) that torch.save doesn't write")),
            }
        }
    }

    fn expect(&self, holds: bool, otherwise: &str) -> Result<()> {
        if holds { Ok(()) } else { Err(format!("{otherwise}, which tensors in dictionaries don't need; nothing was run")) }
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
            return Err(format!("holds more than {MOST_TENSORS} tensors, which no checkpoint does"));
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
            other => Err(format!("holds a pickle of protocol {other}; torch.save writes 2 unless told otherwise")),
        }
    }

    /// A function or class: one of a short list.
    fn name(&mut self) -> Result<()> {
        let (module, name) = (self.cursor.line()?, self.cursor.line()?);
        let known = match (module, name) {
            ("collections", "OrderedDict") => Name::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Name::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Name::RebuildParameter,
            ("torch", "FloatStorage") => Name::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Name::Storage(Dtype::F64),
            ("torch", "HalfStorage") => Name::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Name::Storage(Dtype::Bf16),
            ("torch", "LongStorage") => Name::Storage(Dtype::Whole(8)),
            ("torch", "IntStorage") => Name::Storage(Dtype::Whole(4)),
            ("torch", "ShortStorage") => Name::Storage(Dtype::Whole(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => Name::Storage(Dtype::Whole(1)),
            _ => {
                return Err(format!(
                    "asks for {}, which tensors in dictionaries don't need; nothing was run. If you trust the file, save its state dictionaries alone, with PyTorch",
                    shown(module, name)
                ));
            }
        };
        self.push(Value::Name(known))
    }

    fn top_is_list(&self) -> Result<()> {
        self.expect(matches!(self.value(self.cursor.top()?), Value::List), "appends to what is no list")
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<()> {
        let top = self.cursor.top()?;
        match &mut self.values[top as usize] {
            Value::Dict(entries) => entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value))),
            _ => return self.expect(false, "sets items of what is no dictionary"),
        }
        Ok(())
    }

    /// The items of a tuple, as far as anything here looks at them; none of anything else.
    fn items(&self, id: Id) -> Vec<&Value> {
        let Value::Tuple(items) = self.value(id) else { return Vec::new() };
        items.iter().take(MOST_ARGUMENTS).map(|item| self.value(*item)).collect()
    }

    /// ("storage", type, key, device, count), as torch.save refers to a tensor's numbers.
    fn storage(&mut self) -> Result<()> {
        let id = self.cursor.pop()?;
        let storage = match self.items(id)[..] {
            [Value::Text(kind), Value::Name(Name::Storage(dtype)), Value::Text(key), _, Value::Int(count)]
                if **kind == *"storage" && *count >= 0 =>
            {
                Storage { key: key.clone(), dtype: *dtype, count: *count as u64 }
            }
            _ => return self.expect(false, "refers to what is no tensor storage"),
        };
        self.push(Value::Storage(storage))
    }

    /// A call: of what makes a dictionary or a tensor.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, callee) = (self.cursor.pop()?, self.cursor.pop()?);
        let items = self.items(arguments);
        match (self.value(callee), &items[..]) {
            (Value::Name(Name::OrderedDict), []) => self.push(Value::Dict(Vec::new())),
            (
                Value::Name(Name::RebuildTensor),
                [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..],
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

    /// Numbers of a shape.
    fn sizes(&self, ids: &[Id]) -> Result<Vec<usize>> {
        if ids.len() > MOST_DIMENSIONS {
            return Err(BAD_TENSOR.into());
        }
        let size = |id: &Id| if let Value::Int(n) = self.value(*id) { usize::try_from(*n).ok() } else { None };
        ids.iter().map(|id| size(id).ok_or_else(|| BAD_TENSOR.to_owned())).collect()
    }
}
