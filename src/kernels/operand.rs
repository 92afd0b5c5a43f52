//! Operands of operations on any backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// An operand that a call may do without.
#[derive(Clone, Debug, ExtensionType)]
pub enum Optional<B: Backend> {
    /// There is none.
    Absent,
    /// There is this one.
    Given(FloatTensor<B>),
}

impl<B: Backend> Optional<B> {
    /// As Rust has it.
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    /// The tensor, if there is one.
    pub fn as_option(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    /// The same on another backend.
    pub fn map<To: Backend>(self, change: impl FnOnce(FloatTensor<B>) -> FloatTensor<To>) -> Optional<To> {
        Optional::new(self.into_option().map(change))
    }

    /// Of what Rust has.
    pub fn new(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }
}
