//! Reads the pickles that hold CIFAR, as data. A pickle is a program for a stack machine that may
//! call any function of Python. This machine implements the instructions of protocols 2 to 5 that
//! plain values and NumPy arrays need, and rejects all others, naming them. It never calls
//! anything.

mod machine;
mod value;

pub(super) use crate::pickle::Id;
use crate::pickle::Result;
use machine::Machine;
use std::borrow::Cow;
use value::{Array, Value};

/// The longest name in bytes.
const LONGEST_NAME: usize = 1024;

/// A parsed pickle.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Parses `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (values, root) = Machine::new(bytes).run()?;
        Ok(Self { values, root })
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// Looks up `key` in the top-level dictionary. If a key occurs twice, the last one counts.
    pub fn get(&self, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.value(self.root) else { return None };
        let is_key = |id: Id| match self.value(id) {
            Value::Bytes(bytes) => *bytes == key.as_bytes(),
            Value::Text(text) | Value::Latin(text) => *text == key,
            _ => false,
        };
        entries.iter().rev().find(|(found, _)| is_key(*found)).map(|(_, value)| *value)
    }

    /// Checks whether it is a dictionary.
    pub fn is_dict(&self) -> bool {
        matches!(self.value(self.root), Value::Dict(_))
    }

    /// Returns the number of items of a list.
    pub fn length(&self, id: Id) -> Option<usize> {
        let (Value::List(ids) | Value::Tuple(ids)) = self.value(id) else { return None };
        Some(ids.len())
    }

    /// Returns the texts of a list. It may hold the same text many times, so check [`Self::length`]
    /// first.
    pub fn texts(&self, id: Id) -> Option<Vec<String>> {
        let (Value::List(ids) | Value::Tuple(ids)) = self.value(id) else { return None };
        let text = |id: &Id| {
            let bytes = match self.value(*id) {
                Value::Bytes(bytes) if bytes.len() <= LONGEST_NAME => Cow::Borrowed(*bytes),
                Value::Text(text) if text.len() <= LONGEST_NAME => Cow::Borrowed(text.as_bytes()),
                Value::Latin(text) if text.len() <= LONGEST_NAME => Cow::Owned(from_latin(text)?),
                _ => return None,
            };
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        ids.iter().map(text).collect()
    }

    /// Returns the integers of a list or of a one-dimensional array.
    pub fn numbers(&self, id: Id) -> Option<Vec<i64>> {
        match self.value(id) {
            Value::List(ids) | Value::Tuple(ids) => ids
                .iter()
                .map(|id| if let Value::Int(n) = self.value(*id) { Some(*n) } else { None })
                .collect(),
            Value::Array(Some(array)) if array.shape.len() == 1 && !array.dtype.big_endian => {
                let data = self.data(array)?;
                let number = |bytes: &[u8]| {
                    let high =
                        bytes.last().is_some_and(|last| array.dtype.signed && last & 0x80 != 0);
                    let mut whole = [if high { 0xff } else { 0 }; 8];
                    whole[..bytes.len()].copy_from_slice(bytes);
                    i64::from_le_bytes(whole)
                };
                Some(data.chunks_exact(array.dtype.bytes).map(number).collect())
            }
            _ => None,
        }
    }

    /// Returns the shape and the bytes of an array of bytes, in row-major order.
    pub fn bytes(&self, id: Id) -> Option<(Vec<usize>, Cow<'a, [u8]>)> {
        let Value::Array(Some(array)) = self.value(id) else { return None };
        if array.dtype.bytes != 1 || array.dtype.signed {
            return None;
        }
        let data = self.data(array)?;
        match (array.column_major, &array.shape[..]) {
            (true, &[rows, columns]) if rows > 1 && columns > 1 => {
                let at = |i: usize| data[i % columns * rows + i / columns];
                Some((array.shape.clone(), (0..rows * columns).map(at).collect()))
            }
            (true, shape) if shape.len() > 2 => None,
            _ => Some((array.shape.clone(), data)),
        }
    }

    /// Returns the bytes of an array if their number matches its shape.
    fn data(&self, array: &Array) -> Option<Cow<'a, [u8]>> {
        let data = match self.value(array.data) {
            Value::Bytes(bytes) => Cow::Borrowed(*bytes),
            Value::Latin(text) => Cow::Owned(from_latin(text)?),
            _ => return None,
        };
        let expected =
            array.shape.iter().try_fold(array.dtype.bytes, |n, size| n.checked_mul(*size))?;
        (data.len() == expected).then_some(data)
    }
}

/// Converts each character to one byte.
fn from_latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

#[cfg(test)]
mod tests;
