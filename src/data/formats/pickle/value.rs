//! The values that a pickle can hold here.

use crate::pickle::{Id, Result};

/// A value on the stack.
pub(super) enum Value<'a> {
    /// None, floats, objects under construction: values that are never requested.
    Other,
    Int(i64),
    /// Bytes, and the strings of Python 2.
    Bytes(&'a [u8]),
    Text(&'a str),
    /// Bytes that Python 3 wrote as text for Python 2: one character per byte.
    Latin(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Dtype(Dtype),
    Array(Option<Box<Array>>),
}

/// The functions and classes that a pickle may name.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Reconstruct,
    FromBuffer,
    Ndarray,
    Dtype,
    Encode,
}

/// The type of an array's elements: integers of a given size in bytes.
#[derive(Clone, Copy)]
pub(super) struct Dtype {
    pub signed: bool,
    pub bytes: usize,
    pub big_endian: bool,
}

/// A NumPy array.
#[derive(Clone)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub column_major: bool,
    pub data: Id,
}

impl Dtype {
    /// Returns the type that NumPy calls `name`.
    pub fn named(name: &str) -> Result<Self> {
        let (big_endian, plain) =
            (name.starts_with('>'), name.trim_start_matches(['<', '>', '=', '|']));
        let (signed, bytes) = match plain {
            "u1" | "uint8" => (false, 1),
            "i1" | "int8" => (true, 1),
            "u2" | "uint16" => (false, 2),
            "i2" | "int16" => (true, 2),
            "u4" | "uint32" => (false, 4),
            "i4" | "int32" => (true, 4),
            "u8" | "uint64" => (false, 8),
            "i8" | "int64" => (true, 8),
            other => {
                let other: String = other.chars().filter(|c| !c.is_control()).take(20).collect();
                return Err(format!("holds an array of {other}, where CIFAR has integers"));
            }
        };
        Ok(Self { signed, bytes, big_endian: big_endian && bytes > 1 })
    }
}
