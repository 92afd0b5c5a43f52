//! Work recorded as a plan that another program can carry out: the texts of our kernels, and the
//! order in which they are launched on which buffers. docs/web.md describes the format.
//!
//! What is recorded is what computes: [`launch`](super::launch) hands every launch over while a
//! [`Recorder`] is at work, and leaves it out (see [`record`](super::record)). A plan knows our own
//! launches alone. So whatever they read must have been written by one of them, or be an input or a
//! weight that the recorder was told of; a tensor that an operation of Burn's made in between is an
//! error that names the launch.

mod access;
mod player;
mod recorder;
mod values;

pub use player::{Checks, Player};
pub use recorder::{Beginning, End, Recorder, profile};
pub(crate) use recorder::{constant, joined, launched};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format's version. Players refuse others.
pub const VERSION: u32 = 1;

/// Kernels and what they do with which buffers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// Each text once.
    pub kernels: Vec<Kernel>,
    /// Info blocks in 32-bit words, each once.
    pub infos: Vec<Vec<u32>>,
    /// By name.
    pub passes: BTreeMap<String, Pass>,
}

/// A compute shader: its operands are bound from 0 on in group 0, its info block, a uniform, behind
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The file under shaders/, without its ending.
    pub name: String,
    /// Template values, for people.
    pub variant: String,
    /// Invocations of a workgroup.
    pub workgroup: u32,
    /// The complete text; its entry point is main.
    pub wgsl: String,
    /// For each operand whether it is written.
    pub writes: Vec<bool>,
}

/// Launches in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// What the caller fills, by name. Nothing else is written there.
    pub inputs: BTreeMap<String, Port>,
    /// What the caller reads.
    pub outputs: BTreeMap<String, Port>,
    /// In their order.
    pub dispatches: Vec<Dispatch>,
}

/// A buffer that the caller knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub buffer: usize,
    /// Of its f32 numbers, as memory has them: images are `[B, H, W, C]`.
    pub shape: Vec<usize>,
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Its number.
    pub kernel: usize,
    /// As profiles call it.
    pub label: String,
    /// In the order of their bindings.
    pub operands: Vec<Operand>,
    /// The number of its info block.
    pub info: usize,
    /// Along x, y and z.
    pub workgroups: [u32; 3],
}

/// What is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Operand {
    /// A buffer of the pass.
    Buffer(usize),
    /// A tensor by its name.
    Tensor(String),
    /// What the shader doesn't look at: any buffer that the launch doesn't bind otherwise.
    Spare(()),
}

impl Operand {
    /// Its name, where it is a tensor.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Tensor(name) => Some(name),
            _ => None,
        }
    }
}

/// A tensor of a plan that isn't one of the network's own.
#[derive(Clone, Debug, PartialEq)]
pub enum Extra {
    /// These numbers.
    Numbers(Vec<f32>),
    /// Tensors one behind the other.
    Joined(Vec<String>),
}
