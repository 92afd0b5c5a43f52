//! Places in memory, and what a value that no launch wrote comes from.

use burn::cubecl::server::Handle;

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The allocation.
    pub memory: usize,
    /// The offset in the allocation, in bytes.
    pub first: u64,
}

impl Place {
    /// Returns the place of `handle`.
    pub fn of(handle: &Handle) -> Self {
        Self {
            memory: handle.clone().binding().memory.id().value,
            first: handle.offset_start.unwrap_or(0),
        }
    }
}

/// The source of a value that no launch wrote.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The caller.
    Input {
        /// The name of the input.
        name: String,
        /// Its shape in memory.
        shape: Vec<usize>,
    },
    /// A tensor of this name.
    Tensor(String),
}
