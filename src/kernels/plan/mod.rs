//! Work recorded as a plan that another program can execute: the texts of our kernels, and their
//! launches in order, with the buffers that they use. docs/web.md describes the format.
//!
//! The recorded code is the code that computes: while a [`Recorder`] is active,
//! [`launch`](super::launch) passes every launch to it and skips the launch (see
//! [`record`](super::record)). A plan contains our own launches only. So whatever they read must
//! have been written by one of them, or be an input or a weight that was declared to the recorder.
//! A tensor that was computed by one of Burn's operations in between is an error that names the
//! launch.

mod access;
mod player;
mod recorder;
mod source;
mod values;

pub use player::{Checks, Player};
pub use recorder::{Beginning, End, Recorder, profile};
pub(crate) use recorder::{constant, joined, launched};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format. Players refuse any other.
pub const VERSION: u32 = 1;

/// Kernels, and the passes that launch them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of the format, [`VERSION`].
    pub version: u32,
    /// The kernels, each text once.
    pub kernels: Vec<Kernel>,
    /// The info blocks in 32-bit words, each once.
    pub infos: Vec<Vec<u32>>,
    /// The passes by name.
    pub passes: BTreeMap<String, Pass>,
}

/// A compute shader. Its operands are bound in group 0, from 0 on; its info block, a uniform,
/// follows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The file under shaders/, without its extension.
    pub name: String,
    /// The template values, for people to read.
    pub variant: String,
    /// The invocations of a workgroup.
    pub workgroup: u32,
    /// The complete text; its entry point is main.
    pub wgsl: String,
    /// Whether each operand is written.
    pub writes: Vec<bool>,
}

/// A sequence of launches, and the buffers that they use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The bytes of each buffer.
    pub buffers: Vec<u64>,
    /// The buffers that the caller fills, by name. The launches don't write to them.
    pub inputs: BTreeMap<String, Port>,
    /// The buffers that the caller reads, by name.
    pub outputs: BTreeMap<String, Port>,
    /// The launches, in order.
    pub dispatches: Vec<Dispatch>,
}

/// A buffer that the caller reads or writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The number of the buffer.
    pub buffer: usize,
    /// The shape of its f32 values in memory order: images are `[B, H, W, C]`.
    pub shape: Vec<usize>,
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The number of the kernel.
    pub kernel: usize,
    /// Its name in profiles.
    pub label: String,
    /// The operands, in the order of their bindings.
    pub operands: Vec<Operand>,
    /// The number of the info block.
    pub info: usize,
    /// The workgroups along x, y and z.
    pub workgroups: [u32; 3],
}

/// What a launch binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Operand {
    /// A buffer of the pass.
    Buffer(usize),
    /// A tensor, by its name.
    Tensor(String),
    /// An operand that the shader doesn't access: any buffer that the launch doesn't otherwise
    /// bind.
    Spare(()),
}

impl Operand {
    /// Returns its name, if it is a tensor.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Tensor(name) => Some(name),
            _ => None,
        }
    }
}

/// A tensor of a plan that isn't one of the network's tensors.
#[derive(Clone, Debug, PartialEq)]
pub enum Extra {
    /// The given values.
    Numbers(Vec<f32>),
    /// The concatenation of these tensors.
    Joined(Vec<String>),
}
