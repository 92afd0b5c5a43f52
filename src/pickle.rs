//! The common part of reading pickles as data: the bytes, and the stack, marks and memo of the
//! pickle machine. The readers built on it define the values, the known instructions and names, and
//! see to it that nothing is ever called.

use std::collections::HashMap;

/// A result whose error completes a sentence.
pub type Result<T> = std::result::Result<T, String>;

/// The index of a value among all values of a pickle. Values refer to each other by index, so that
/// a value that is used twice costs nothing and one that contains itself does no harm.
pub type Id = u32;

const UNDERFLOW: &str = "holds a pickle that pops from an empty stack";
/// The error for a pickle that ends too early.
pub const CUT: &str = "ends in the middle of its pickle";

/// The state of a pickle machine.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Returns the number of bytes read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..count).ok_or(CUT)?;
        self.at += count;
        Ok(taken)
    }

    /// Reads an unsigned integer of up to eight bytes.
    pub fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// Reads a signed integer of four bytes.
    pub fn signed(&mut self) -> Result<i64> {
        Ok((self.number(4)? as u32).cast_signed().into())
    }

    /// Reads an integer preceded by its length, in little-endian two's complement; returns `None`
    /// for one of more than eight bytes.
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

    /// Reads bytes preceded by their count, which takes `bytes` bytes.
    pub fn counted(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let count = usize::try_from(self.number(bytes)?).map_err(|_| CUT)?;
        self.take(count)
    }

    /// Reads a string preceded by its length, which takes `bytes` bytes.
    pub fn text(&mut self, bytes: usize) -> Result<&'a str> {
        std::str::from_utf8(self.counted(bytes)?)
            .map_err(|_| "holds a string that isn't UTF-8".into())
    }

    /// Reads a line and returns it without its newline.
    pub fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "holds a name that isn't UTF-8".into())
    }

    /// Pushes `id` onto the stack.
    pub fn push(&mut self, id: Id) {
        self.stack.push(id);
    }

    /// Returns the top of the stack, which must lie above the last mark.
    pub fn top(&self) -> Result<Id> {
        let below = self.marks.last().copied().unwrap_or(0);
        self.stack
            .get(below..)
            .and_then(|above| above.last().copied())
            .ok_or_else(|| UNDERFLOW.into())
    }

    /// Pops the top of the stack.
    pub fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Pops the top `count` values of the stack, lowest first.
    pub fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<Id>>>()?;
        items.reverse();
        Ok(items)
    }

    /// Sets a mark at the current height of the stack.
    pub fn mark(&mut self) {
        self.marks.push(self.stack.len());
    }

    /// Pops everything above the last mark, and the mark.
    pub fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or(UNDERFLOW)?;
        Ok(self.stack.split_off(mark))
    }

    /// Stores the top in the memo, in the slot given by an integer of `bytes` bytes.
    pub fn remember(&mut self, bytes: usize) -> Result<()> {
        let (slot, top) = (self.number(bytes)? as u32, self.top()?);
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Stores the top in the next slot of the memo.
    pub fn remember_next(&mut self) -> Result<()> {
        let (slot, top) = (self.memo.len() as u32, self.top()?);
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Pushes the memo's value of the slot given by an integer of `bytes` bytes.
    pub fn recall(&mut self, bytes: usize) -> Result<()> {
        let slot = self.number(bytes)? as u32;
        let id = *self.memo.get(&slot).ok_or("holds a pickle that reads an unset memo slot")?;
        self.stack.push(id);
        Ok(())
    }
}

/// Returns `module.name` for display in a message.
pub fn shown(module: &str, name: &str) -> String {
    format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect()
}
