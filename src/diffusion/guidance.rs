//! Classifier-free guidance (Ho and Salimans 2022).

use burn::tensor::Tensor;

/// (1 + w) eps_c - w eps_u: away from the prediction without z.
pub fn guided(eps_c: Tensor<4>, eps_u: Tensor<4>, w: f64) -> Tensor<4> {
    eps_c * (1.0 + w) - eps_u * w
}
