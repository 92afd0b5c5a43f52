//! The operands and the constants of an update, and of a sum of squares.

use crate::kernels::operand::Optional;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// The constant added to the root of the second moment (PyTorch's default).
const EPSILON: f64 = 1e-8;

/// The constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The learning rate.
    pub lr: f64,
    /// The decoupled weight decay.
    pub weight_decay: f64,
    /// The decay rates of the moments.
    pub betas: [f64; 2],
    /// The number of this update, n, counted from 1.
    pub update: i32,
    /// The decay rate of the EMA, d.
    pub ema_decay: f64,
}

/// The number of factors of an update.
pub const FACTORS: usize = 10;

impl Options {
    /// Returns the factors of the update in f32, rounded once: beta1, 1 - beta1, beta2, 1 - beta2,
    /// lr / c1, 1 / c2, eps, 1 - lr * decay, d, 1 - d. The last is that of the rounded d: otherwise
    /// the weights of the average wouldn't sum to 1, and a long average would be too small.
    pub fn factors(&self) -> [f32; FACTORS] {
        let [c1, c2] = self.betas.map(|beta| 1.0 - beta.powi(self.update));
        let [beta1, beta2] = self.betas;
        let (rate, shrink) = (self.lr / c1, 1.0 - self.lr * self.weight_decay);
        let (correction, rest) = (1.0 / c2, 1.0 - f64::from(self.ema_decay as f32));
        [
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            rate,
            correction,
            EPSILON,
            shrink,
            self.ema_decay,
            rest,
        ]
        .map(|f| f as f32)
    }
}

/// [`Parameter`](super::Parameter), on any backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdamWParameter<B: Backend> {
    /// The weight, w.
    pub weight: FloatTensor<B>,
    /// The first moment, m.
    pub first: FloatTensor<B>,
    /// The second moment, v.
    pub second: FloatTensor<B>,
    /// The EMA of w.
    pub average: FloatTensor<B>,
}

/// The inputs of one update.
#[derive(Clone, Debug, ExtensionType)]
pub struct AdamWInputs<B: Backend> {
    /// The parameter to update.
    #[extension_type]
    pub parameter: AdamWParameter<B>,
    /// The gradient, `[N]`.
    pub grad: FloatTensor<B>,
    /// The factor of the gradient, `[1]`.
    pub clip: FloatTensor<B>,
    /// The factors from [`Options::factors`].
    pub factors: FloatTensor<B>,
}

/// The most tensors that one call adds up: together with the sums they need fewer than the eight
/// storage buffers that every WebGPU device can bind.
pub(super) const TOGETHER: usize = 6;

/// One to six tensors, each `[N]`, on any backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct Several<B: Backend> {
    /// Always present.
    pub first: FloatTensor<B>,
    /// May be absent.
    #[extension_type]
    pub second: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub third: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub fourth: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub fifth: Optional<B>,
    /// May be absent.
    #[extension_type]
    pub sixth: Optional<B>,
}

impl<B: Backend> Several<B> {
    /// Makes one from `first` and the first tensors of `others`, [`TOGETHER`] in total.
    pub(super) fn new(
        first: FloatTensor<B>,
        mut others: impl Iterator<Item = FloatTensor<B>>,
    ) -> Self {
        let [second, third, fourth, fifth, sixth] =
            std::array::from_fn(|_| Optional::new(others.next()));
        Self { first, second, third, fourth, fifth, sixth }
    }

    /// Returns the tensors that are present.
    pub fn into_vec(self) -> Vec<FloatTensor<B>> {
        let Self { first, second, third, fourth, fifth, sixth } = self;
        let others =
            [second, third, fourth, fifth, sixth].into_iter().filter_map(Optional::into_option);
        std::iter::once(first).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_the_average_sum_to_one() {
        for ema_decay in [0.0, 0.9, 0.9995, 0.9999, 0.99999, 0.999999] {
            let options =
                Options { lr: 1e-3, betas: [0.9, 0.95], weight_decay: 0.0, update: 1, ema_decay };
            let [.., kept, rest] = options.factors();
            assert_eq!(f64::from(kept) + f64::from(rest), 1.0, "{ema_decay}");
        }
    }
}
