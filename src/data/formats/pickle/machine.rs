//! The machine that a pickle is a program for, as far as data goes.

use super::{Array, Dtype, Id, Name, Result, Value};
use std::collections::HashMap;

/// Most instructions; each makes one value at most. All of CIFAR-100 has 300,000.
const MOST_STEPS: usize = 1 << 22;
/// Most dimensions of an array.
const MOST_DIMENSIONS: usize = 8;

const UNDERFLOW: &str = "holds a pickle that takes more than it made";
const CUT: &str = "ends in the middle of its pickle";

/// The stack machine.
pub struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// All values, and the place of the one that the pickle stands for.
    pub fn run(mut self) -> Result<(Vec<Value<'a>>, Id)> {
        for _ in 0..MOST_STEPS {
            match self.take(1)?[0] {
                b'.' => {
                    let root = self.pop()?;
                    return Ok((self.values, root));
                }
                instruction => self.step(instruction)?,
            }
        }
        Err(format!("holds a pickle of more than {MOST_STEPS} instructions, which CIFAR has not"))
    }

    fn step(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            0x80 => self.protocol(),
            // A frame: what follows is read as it comes.
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'2' => self.top().map(|top| self.stack.push(top)),
            b'N' => self.push(Value::Other),
            0x88 | 0x89 => self.push(Value::Int(i64::from(instruction == 0x88))),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)
            }
            b'K' => self.whole(1),
            b'M' => self.whole(2),
            b'J' => {
                let number = (self.number(4)? as u32).cast_signed();
                self.push(Value::Int(number.into()))
            }
            0x8a => self.long(),
            b'U' | b'C' => self.sized(1, Value::Bytes),
            b'T' | b'B' => self.sized(4, Value::Bytes),
            0x8e | 0x96 => self.sized(8, Value::Bytes),
            0x8c => self.text(1),
            b'X' => self.text(4),
            0x8d => self.text(8),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.value(module), self.value(name)) {
                    (&Value::Text(module), &Value::Text(name)) => self.name(module, name),
                    _ => Err("asks for something without a name".into()),
                }
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let count = usize::from(instruction - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<Id>>>()?;
                items.reverse();
                self.push(Value::Tuple(items))
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(&items)
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)).collect()))
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)
            }
            b'q' => self.remember(1),
            b'r' => self.remember(4),
            0x94 => {
                let (slot, top) = (self.memo.len() as u32, self.top()?);
                self.memo.insert(slot, top);
                Ok(())
            }
            b'h' => self.recall(1),
            b'j' => self.recall(4),
            b'R' => self.reduce(),
            b'b' => self.build(),
            other => {
                Err(format!("holds an instruction (0x{other:02x}) that plain values and arrays don't need; nothing was run"))
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..count).ok_or(CUT)?;
        self.at += count;
        Ok(taken)
    }

    /// An unsigned number.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn whole(&mut self, bytes: usize) -> Result<()> {
        let number = self.number(bytes)?;
        self.push(Value::Int(number as i64))
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn top(&self) -> Result<Id> {
        let below = self.marks.last().copied().unwrap_or(0);
        self.stack.get(below..).and_then(|above| above.last().copied()).ok_or_else(|| UNDERFLOW.into())
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
            2..=5 => Ok(()),
            other => Err(format!("holds a pickle of protocol {other}; CIFAR has 2, and 3 to 5 are read as well")),
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

    /// Bytes behind their count, which has `bytes` bytes.
    fn counted(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let count = usize::try_from(self.number(bytes)?).map_err(|_| CUT)?;
        self.take(count)
    }

    fn sized(&mut self, bytes: usize, make: fn(&'a [u8]) -> Value<'a>) -> Result<()> {
        let content = self.counted(bytes)?;
        self.push(make(content))
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        let text = std::str::from_utf8(self.counted(bytes)?).map_err(|_| "holds a text that isn't UTF-8")?;
        self.push(Value::Text(text))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "holds a name that isn't UTF-8".into())
    }

    /// A function or class: one of a short list. Newer versions of numpy have moved theirs.
    fn name(&mut self, module: &str, name: &str) -> Result<()> {
        let known = match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Name::Reconstruct,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Name::FromBuffer,
            ("numpy", "ndarray") => Name::Ndarray,
            ("numpy", "dtype") => Name::Dtype,
            ("_codecs", "encode") => Name::Encode,
            _ => {
                let full: String = format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect();
                return Err(format!("asks for {full}, which plain values and arrays don't need; nothing was run"));
            }
        };
        self.push(Value::Name(known))
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err("appends to what is no list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        match &mut self.values[top as usize] {
            Value::Dict(entries) => entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value))),
            _ => return Err("sets items of what is no dictionary".into()),
        }
        Ok(())
    }

    /// `bytes`: length of the slot's number.
    fn remember(&mut self, bytes: usize) -> Result<()> {
        let (slot, top) = (self.number(bytes)? as u32, self.top()?);
        self.memo.insert(slot, top);
        Ok(())
    }

    /// See [`Machine::remember`].
    fn recall(&mut self, bytes: usize) -> Result<()> {
        let slot = self.number(bytes)? as u32;
        let id = *self.memo.get(&slot).ok_or("holds a pickle that recalls what it never kept")?;
        self.stack.push(id);
        Ok(())
    }

    /// The first few items of a tuple with their places; none of anything else.
    fn items(&self, id: Id) -> Vec<(Id, &Value<'a>)> {
        let Value::Tuple(items) = self.value(id) else { return Vec::new() };
        items.iter().take(MOST_DIMENSIONS).map(|item| (*item, self.value(*item))).collect()
    }

    /// A call: of what makes bytes, an array or the type of its numbers.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let items = self.items(arguments);
        let made = match (self.value(callee), &items[..]) {
            (Value::Name(Name::Encode), [(_, Value::Text(text)), (_, Value::Text("latin1" | "latin-1"))]) => Value::Latin(text),
            (Value::Name(Name::Reconstruct), [(_, Value::Name(Name::Ndarray)), ..]) => Value::Array(None),
            (Value::Name(Name::Dtype), [(_, name), ..]) => Value::Dtype(match name {
                Value::Text(name) => Dtype::named(name)?,
                Value::Bytes(name) => Dtype::named(&String::from_utf8_lossy(name))?,
                _ => return Err("describes an array in an impossible way".into()),
            }),
            (Value::Name(Name::FromBuffer), [(data, Value::Bytes(_)), (_, Value::Dtype(dtype)), (shape, _), (_, order)]) => {
                let (shape, column_major) = (self.shape(*shape)?, matches!(order, Value::Text("F")));
                Value::Array(Some(Box::new(Array { shape, dtype: *dtype, column_major, data: *data })))
            }
            _ => return Err("calls something in an unknown way; nothing was run".into()),
        };
        self.push(made)
    }

    /// Gives an object its state: (version, shape, type, order, data) of an array, (version, byte order, ..) of a type.
    fn build(&mut self) -> Result<()> {
        let (state, object) = (self.pop()?, self.top()?);
        let items = self.items(state);
        let made = match (self.value(object), &items[..]) {
            (Value::Array(None), [_, (shape, _), (_, Value::Dtype(dtype)), (_, Value::Int(order)), (data, _)]) => {
                let shape = self.shape(*shape)?;
                Value::Array(Some(Box::new(Array { shape, dtype: *dtype, column_major: *order != 0, data: *data })))
            }
            (Value::Dtype(dtype), [_, (_, order), ..]) => {
                let big_endian = matches!(order, Value::Text(">") | Value::Bytes(b">") | Value::Latin(">")) && dtype.bytes > 1;
                Value::Dtype(Dtype { big_endian, ..*dtype })
            }
            _ => return Err("sets the state of an object that is no array; nothing was run".into()),
        };
        self.values[object as usize] = made;
        Ok(())
    }

    fn shape(&self, id: Id) -> Result<Vec<usize>> {
        let impossible = || "describes an array in an impossible way".to_owned();
        let Value::Tuple(sizes) = self.value(id) else { return Err(impossible()) };
        if sizes.len() > MOST_DIMENSIONS {
            return Err(impossible());
        }
        let size = |id: &Id| if let Value::Int(n) = self.value(*id) { usize::try_from(*n).ok() } else { None };
        sizes.iter().map(|id| size(id).ok_or_else(impossible)).collect()
    }
}
