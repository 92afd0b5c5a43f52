//! The networks: an encoder that maps an image to z, and a denoiser whose only information about
//! the image, apart from x_t, is z.

pub mod activations;
pub mod blocks;
mod constant;
pub mod embedding;
pub mod encoder;
pub mod futurexiang;
mod init;
pub mod layers;
pub mod modulation;
pub mod onnx;
pub mod parameters;
pub mod pytorch;
pub mod shipped;
pub mod soda;
pub mod torchvision;
mod translate;
pub mod unet;
pub mod view_conditioning;
pub mod weights;

pub(crate) use embedding::waves;
pub use soda::Soda;
