//! The stack machine that executes a pickle, restricted to data.

use super::value::{Array, Dtype, Name, Value};
use crate::pickle::{Cursor, Id, Result, shown};

/// The maximum number of instructions; each creates at most one value. All of CIFAR-100 takes
/// 300,000.
const MOST_STEPS: usize = 1 << 22;
/// The maximum number of dimensions of an array.
const MOST_DIMENSIONS: usize = 8;

/// The stack machine.
pub struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Vec<Value<'a>>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(bytes), values: Vec::new() }
    }

    /// Runs the pickle. Returns all values, and the position of the one that the pickle represents.
    pub fn run(mut self) -> Result<(Vec<Value<'a>>, Id)> {
        for _ in 0..MOST_STEPS {
            match self.cursor.take(1)?[0] {
                b'.' => {
                    let root = self.cursor.pop()?;
                    return Ok((self.values, root));
                }
                instruction => self.step(instruction)?,
            }
        }
        Err(format!(
            "holds a pickle of more than {MOST_STEPS} instructions, which is more than CIFAR has"
        ))
    }

    fn step(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            0x80 => self.protocol(),
            // The size of a frame, which isn't needed.
            0x95 => self.cursor.take(8).map(drop),
            b'(' => {
                self.cursor.mark();
                Ok(())
            }
            b'0' => self.cursor.pop().map(drop),
            b'2' => self.cursor.top().map(|top| self.cursor.push(top)),
            b'N' => self.push(Value::Other),
            0x88 | 0x89 => self.push(Value::Int(i64::from(instruction == 0x88))),
            b'G' => {
                self.cursor.take(8)?;
                self.push(Value::Other)
            }
            b'K' => self.whole(1),
            b'M' => self.whole(2),
            b'J' => {
                let number = self.cursor.signed()?;
                self.push(Value::Int(number))
            }
            0x8a => {
                let number = self.cursor.long()?;
                self.push(number.map_or(Value::Other, Value::Int))
            }
            b'U' | b'C' => self.sized(1, Value::Bytes),
            b'T' | b'B' => self.sized(4, Value::Bytes),
            0x8e | 0x96 => self.sized(8, Value::Bytes),
            0x8c | b'X' | 0x8d => {
                let text = self.cursor.text(match instruction {
                    0x8c => 1,
                    b'X' => 4,
                    _ => 8,
                })?;
                self.push(Value::Text(text))
            }
            b'c' => {
                let (module, name) = (self.cursor.line()?, self.cursor.line()?);
                self.name(module, name)
            }
            0x93 => {
                let (name, module) = (self.cursor.pop()?, self.cursor.pop()?);
                match (self.value(module), self.value(name)) {
                    (&Value::Text(module), &Value::Text(name)) => self.name(module, name),
                    _ => Err("asks for something without a name".into()),
                }
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.cursor.pop_to_mark()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let items = self.cursor.pop_many(usize::from(instruction - 0x84))?;
                self.push(Value::Tuple(items))
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.cursor.pop_to_mark()?;
                self.push(Value::List(items))
            }
            b'a' => {
                let item = self.cursor.pop()?;
                self.extend_list(&[item])
            }
            b'e' => {
                let items = self.cursor.pop_to_mark()?;
                self.extend_list(&items)
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.cursor.pop_to_mark()?;
                self.push(Value::Dict(
                    items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)).collect(),
                ))
            }
            b's' => {
                let (value, key) = (self.cursor.pop()?, self.cursor.pop()?);
                self.extend_dict(&[key, value])
            }
            b'u' => {
                let items = self.cursor.pop_to_mark()?;
                self.extend_dict(&items)
            }
            b'q' => self.cursor.remember(1),
            b'r' => self.cursor.remember(4),
            0x94 => self.cursor.remember_next(),
            b'h' => self.cursor.recall(1),
            b'j' => self.cursor.recall(4),
            b'R' => self.reduce(),
            b'b' => self.build(),
            other => Err(format!(
                "holds an instruction (0x{other:02x}) that plain values and arrays don't need; \
                 nothing was run"
            )),
        }
    }

    fn whole(&mut self, bytes: usize) -> Result<()> {
        let number = self.cursor.number(bytes)?;
        self.push(Value::Int(number as i64))
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.cursor.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn protocol(&mut self) -> Result<()> {
        match self.cursor.number(1)? {
            2..=5 => Ok(()),
            other => Err(format!(
                "holds a pickle of protocol {other}; CIFAR has 2, and 3 to 5 are read as well"
            )),
        }
    }

    fn sized(&mut self, bytes: usize, make: fn(&'a [u8]) -> Value<'a>) -> Result<()> {
        let content = self.cursor.counted(bytes)?;
        self.push(make(content))
    }

    /// Pushes a function or class, which must be on a short list. Newer versions of NumPy have
    /// moved theirs.
    fn name(&mut self, module: &str, name: &str) -> Result<()> {
        let known = match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Name::Reconstruct
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Name::FromBuffer,
            ("numpy", "ndarray") => Name::Ndarray,
            ("numpy", "dtype") => Name::Dtype,
            ("_codecs", "encode") => Name::Encode,
            _ => {
                let full = shown(module, name);
                return Err(format!(
                    "asks for {full}, which plain values and arrays don't need; nothing was run"
                ));
            }
        };
        self.push(Value::Name(known))
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<()> {
        let top = self.cursor.top()?;
        match &mut self.values[top as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err("appends to something that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<()> {
        let top = self.cursor.top()?;
        match &mut self.values[top as usize] {
            Value::Dict(entries) => {
                entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)))
            }
            _ => return Err("sets items of something that is not a dictionary".into()),
        }
        Ok(())
    }

    /// Returns the first few items of a tuple with their positions; nothing for other values.
    fn items(&self, id: Id) -> Vec<(Id, &Value<'a>)> {
        let Value::Tuple(items) = self.value(id) else { return Vec::new() };
        items.iter().take(MOST_DIMENSIONS).map(|item| (*item, self.value(*item))).collect()
    }

    /// Executes a call, which may only make bytes, an array or an array's element type.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, callee) = (self.cursor.pop()?, self.cursor.pop()?);
        let items = self.items(arguments);
        let made = match (self.value(callee), &items[..]) {
            (
                Value::Name(Name::Encode),
                [(_, Value::Text(text)), (_, Value::Text("latin1" | "latin-1"))],
            ) => Value::Latin(text),
            (Value::Name(Name::Reconstruct), [(_, Value::Name(Name::Ndarray)), ..]) => {
                Value::Array(None)
            }
            (Value::Name(Name::Dtype), [(_, name), ..]) => Value::Dtype(match name {
                Value::Text(name) => Dtype::named(name)?,
                Value::Bytes(name) => Dtype::named(&String::from_utf8_lossy(name))?,
                _ => return Err("describes an array in an impossible way".into()),
            }),
            (
                Value::Name(Name::FromBuffer),
                [(data, Value::Bytes(_)), (_, Value::Dtype(dtype)), (shape, _), (_, order)],
            ) => {
                let (shape, column_major) =
                    (self.shape(*shape)?, matches!(order, Value::Text("F")));
                Value::Array(Some(Box::new(Array {
                    shape,
                    dtype: *dtype,
                    column_major,
                    data: *data,
                })))
            }
            _ => return Err("calls something in an unknown way; nothing was run".into()),
        };
        self.push(made)
    }

    /// Sets the state of an object: (version, shape, type, order, data) for an array, (version,
    /// byte order, ..) for a type.
    fn build(&mut self) -> Result<()> {
        let (state, object) = (self.cursor.pop()?, self.cursor.top()?);
        let items = self.items(state);
        let made = match (self.value(object), &items[..]) {
            (
                Value::Array(None),
                [_, (shape, _), (_, Value::Dtype(dtype)), (_, Value::Int(order)), (data, _)],
            ) => {
                let shape = self.shape(*shape)?;
                Value::Array(Some(Box::new(Array {
                    shape,
                    dtype: *dtype,
                    column_major: *order != 0,
                    data: *data,
                })))
            }
            (Value::Dtype(dtype), [_, (_, order), ..]) => {
                let big_endian =
                    matches!(order, Value::Text(">") | Value::Bytes(b">") | Value::Latin(">"))
                        && dtype.bytes > 1;
                Value::Dtype(Dtype { big_endian, ..*dtype })
            }
            _ => {
                return Err(
                    "sets the state of an object that is not an array; nothing was run".into()
                );
            }
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
        let size = |id: &Id| {
            if let Value::Int(n) = self.value(*id) { usize::try_from(*n).ok() } else { None }
        };
        sizes.iter().map(|id| size(id).ok_or_else(impossible)).collect()
    }
}
