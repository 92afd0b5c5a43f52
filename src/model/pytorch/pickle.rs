//! The pickle within a checkpoint, as data. A pickle is a program for a stack machine that may call any function of Python;
//! this machine knows the instructions that torch.save writes and the few names that tensors in dictionaries need, and refuses
//! the rest by name. Nothing is ever called.

use super::archive::Result;
use super::tensor::{Dtype, Storage, Tensor};
use std::collections::HashMap;
use std::rc::Rc;

/// Place of a value among all of a pickle. Values refer to each other by place: a value that is used twice costs nothing, and
/// one that contains itself does no harm.
pub type Id = u32;

/// Most values that are kept; a checkpoint of 500 tensors and its optimizer has about 20,000.
const MOST_VALUES: usize = 1 << 20;
/// Most tensors; a checkpoint of two networks and their optimizer has 2,000.
const MOST_TENSORS: usize = 1 << 16;
/// Arguments of a call that are looked at: torch.save's have six or seven.
const MOST_ARGUMENTS: usize = 8;

/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

const BAD_TENSOR: &str = "describes a tensor in an impossible way";
const UNDERFLOW: &str = "holds a pickle that takes more than it made";
const CUT: &str = "ends in the middle of its pickle";

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
        let mut machine =
            Machine { bytes, at: 0, values: Vec::new(), tensors: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
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
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    /// How many of them are tensors: a few bytes of a pickle make one, which takes hundreds here.
    tensors: usize,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let instruction = self.number(1)? as u8;
            match instruction {
                0x80 => self.protocol()?,
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                // None, True, False, a float.
                b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Other)?;
                }
                b'K' => self.whole(1)?,
                b'M' => self.whole(2)?,
                b'J' => {
                    let number = self.number(4)?.cast_signed();
                    self.push(Value::Int(number.into()))?;
                }
                0x8a => self.long()?,
                b'X' => self.text()?,
                b'c' => self.name()?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                0x85..=0x87 => self.tuple(usize::from(instruction - 0x84))?,
                b']' => self.push(Value::List)?,
                b'a' => {
                    self.pop()?;
                    self.top_is_list()?;
                }
                b'e' => {
                    self.pop_to_mark()?;
                    self.top_is_list()?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.extend_dict(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(&items)?;
                }
                b'q' => self.remember(1)?,
                b'r' => self.remember(4)?,
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                // The state of an OrderedDict holds version numbers of modules; anything else has no state here.
                b'b' => {
                    self.pop()?;
                    self.expect(matches!(self.value(self.top()?), Value::Dict(_)), "sets the state of an object")?;
                }
                other => return Err(format!("holds an instruction (0x{other:02x}) that torch.save doesn't write")),
            }
        }
    }

    fn expect(&self, holds: bool, otherwise: &str) -> Result<()> {
        if holds { Ok(()) } else { Err(format!("{otherwise}, which tensors in dictionaries don't need; nothing was run")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..count).ok_or(CUT)?;
        self.at += count;
        Ok(taken)
    }

    /// An unsigned number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Result<u32> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn whole(&mut self, bytes: usize) -> Result<()> {
        let number = self.number(bytes)?;
        self.push(Value::Int(number.into()))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.values.len() == MOST_VALUES {
            return Err(format!("holds more than {MOST_VALUES} values, which no checkpoint does"));
        }
        self.tensors += usize::from(matches!(value, Value::Tensor(_)));
        if self.tensors > MOST_TENSORS {
            return Err(format!("holds more than {MOST_TENSORS} tensors, which no checkpoint does"));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn top(&self) -> Result<Id> {
        let below = self.marks.last().copied().unwrap_or(0);
        self.stack[below..].last().copied().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or(UNDERFLOW)?;
        Ok(self.stack.split_off(mark))
    }

    fn protocol(&mut self) -> Result<()> {
        match self.number(1)? {
            2 => Ok(()),
            other => Err(format!("holds a pickle of protocol {other}; torch.save writes 2 unless told otherwise")),
        }
    }

    /// A whole number of up to eight bytes, little-endian two's complement.
    fn long(&mut self) -> Result<()> {
        let count = self.number(1)? as usize;
        let bytes = self.take(count)?;
        let Some(last) = bytes.last() else { return self.push(Value::Int(0)) };
        if count > 8 {
            return self.push(Value::Other);
        }
        let mut whole = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
        whole[..count].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self) -> Result<()> {
        let count = self.number(4)? as usize;
        let text = std::str::from_utf8(self.take(count)?).map_err(|_| "holds a text that isn't UTF-8")?;
        self.push(Value::Text(text.into()))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "holds a name that isn't UTF-8".into())
    }

    /// A function or class: one of a short list.
    fn name(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
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
                let full: String = format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect();
                return Err(format!(
                    "asks for {full}, which tensors in dictionaries don't need; nothing was run. If you trust the file, save its state dictionaries alone, with PyTorch"
                ));
            }
        };
        self.push(Value::Name(known))
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<Id>>>()?;
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn top_is_list(&self) -> Result<()> {
        self.expect(matches!(self.value(self.top()?), Value::List), "appends to what is no list")
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top as usize] {
            Value::Dict(entries) => entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value))),
            _ => return self.expect(false, "sets items of what is no dictionary"),
        }
        Ok(())
    }

    /// `bytes`: length of the slot's number.
    fn remember(&mut self, bytes: usize) -> Result<()> {
        let (slot, top) = (self.number(bytes)?, self.top()?);
        self.memo.insert(slot, top);
        Ok(())
    }

    /// See [`Machine::remember`].
    fn recall(&mut self, bytes: usize) -> Result<()> {
        let slot = self.number(bytes)?;
        let id = *self.memo.get(&slot).ok_or("holds a pickle that recalls what it never kept")?;
        self.stack.push(id);
        Ok(())
    }

    /// The items of a tuple, as far as anything here looks at them; none of anything else.
    fn items(&self, id: Id) -> Vec<&Value> {
        let Value::Tuple(items) = self.value(id) else { return Vec::new() };
        items.iter().take(MOST_ARGUMENTS).map(|item| self.value(*item)).collect()
    }

    /// ("storage", type, key, device, count), as torch.save refers to a tensor's numbers.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
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
        let (arguments, callee) = (self.pop()?, self.pop()?);
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
