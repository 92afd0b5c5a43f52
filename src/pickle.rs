//! What every pickle needs to be read as data: its bytes, and the stack, marks and memo of the
//! machine that it is a program for. What the values are, which instructions and names are known,
//! and that nothing is ever called, is the business of who reads.

use std::collections::HashMap;

/// What is wrong, as the rest of a sentence.
pub type Result<T> = std::result::Result<T, String>;

/// Place of a value among all of a pickle. Values refer to each other by place: a value that is
/// used twice costs nothing, and one that contains itself does no harm.
pub type Id = u32;

const UNDERFLOW: &str = "holds a pickle that takes more than it made";
/// What is said of a pickle that ends too early.
pub const CUT: &str = "ends in the middle of its pickle";

/// Where a reader of a pickle stands.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..count).ok_or(CUT)?;
        self.at += count;
        Ok(taken)
    }

    /// An unsigned number of up to eight bytes.
    pub fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// A signed number of four bytes.
    pub fn signed(&mut self) -> Result<i64> {
        Ok((self.number(4)? as u32).cast_signed().into())
    }

    /// A whole number behind its length, little-endian two's complement; `None`: one of more than
    /// eight bytes.
    pub fn long(&mut self) -> Result<Option<i64>> {
        let count = self.number(1)? as usize;
        let bytes = self.take(count)?;
        let Some(last) = bytes.last() else { return Ok(Some(0)) };
        if count > 8 {
            return Ok(None);
        }
        let mut whole = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
        whole[..count].copy_from_slice(bytes);
        Ok(Some(i64::from_le_bytes(whole)))
    }

    /// Bytes behind their count, which has `bytes` bytes.
    pub fn counted(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let count = usize::try_from(self.number(bytes)?).map_err(|_| CUT)?;
        self.take(count)
    }

    /// A text behind its count, which has `bytes` bytes.
    pub fn text(&mut self, bytes: usize) -> Result<&'a str> {
        std::str::from_utf8(self.counted(bytes)?)
            .map_err(|_| "holds a text that isn't UTF-8".into())
    }

    /// A line without its end.
    pub fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "holds a name that isn't UTF-8".into())
    }

    /// Puts `id` on the stack.
    pub fn push(&mut self, id: Id) {
        self.stack.push(id);
    }

    /// What lies on top of the stack, above its last mark.
    pub fn top(&self) -> Result<Id> {
        let below = self.marks.last().copied().unwrap_or(0);
        self.stack
            .get(below..)
            .and_then(|above| above.last().copied())
            .ok_or_else(|| UNDERFLOW.into())
    }

    /// Takes that away.
    pub fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// The upper `count` of the stack, the lowest first.
    pub fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<Id>>>()?;
        items.reverse();
        Ok(items)
    }

    /// Marks the height of the stack.
    pub fn mark(&mut self) {
        self.marks.push(self.stack.len());
    }

    /// All above the last mark, and the mark.
    pub fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or(UNDERFLOW)?;
        Ok(self.stack.split_off(mark))
    }

    /// Keeps the top under a number of `bytes` bytes.
    pub fn remember(&mut self, bytes: usize) -> Result<()> {
        let (slot, top) = (self.number(bytes)? as u32, self.top()?);
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Keeps the top under the next number.
    pub fn remember_next(&mut self) -> Result<()> {
        let (slot, top) = (self.memo.len() as u32, self.top()?);
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Puts what was kept under a number of `bytes` bytes on the stack.
    pub fn recall(&mut self, bytes: usize) -> Result<()> {
        let slot = self.number(bytes)? as u32;
        let id = *self.memo.get(&slot).ok_or("holds a pickle that recalls what it never kept")?;
        self.stack.push(id);
        Ok(())
    }
}

/// `module.name` as a message shows it.
pub fn shown(module: &str, name: &str) -> String {
    format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect()
}
