//! Operands of operations on any backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// An operand that a call may omit.
#[derive(Clone, Debug, ExtensionType)]
pub enum Optional<B: Backend> {
    /// No operand.
    Absent,
    /// This operand.
    Given(FloatTensor<B>),
}

impl<B: Backend> Optional<B> {
    /// Converts it to an `Option`.
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    /// Returns the tensor, if there is one.
    pub fn as_option(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    /// Applies `change` to the tensor, if there is one.
    pub fn map<To: Backend>(
        self,
        change: impl FnOnce(FloatTensor<B>) -> FloatTensor<To>,
    ) -> Optional<To> {
        Optional::new(self.into_option().map(change))
    }

    /// Converts an `Option`.
    pub fn new(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }
}
