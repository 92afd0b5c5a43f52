//! What z is worth: features of a frozen encoder and the protocols that score them.

pub mod copies;
pub mod features;
pub mod image;
pub mod latent;
pub mod linear;
pub mod loss;
pub mod matrix;
pub mod probe;
