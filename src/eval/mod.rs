//! Evaluation of representations: features of a frozen encoder and the protocols that score them.

pub mod copies;
pub mod distance;
pub mod features;
pub mod grid;
pub mod health;
pub mod image;
pub mod inception;
pub mod knn;
pub mod latent;
mod lbfgs;
pub mod linear;
pub mod linear_full;
pub mod loss;
pub mod map;
pub mod matrix;
pub mod method;
pub mod probe;
pub mod spectrum;
pub mod table;
pub mod validation;
pub mod whitening;
