//! The networks: an encoder that maps an image to z, and a denoiser whose only information about
//! the image, apart from x_t, is z.

#[doc(hidden)]
pub mod activations;
#[doc(hidden)]
pub mod blocks;
mod constant;
#[doc(hidden)]
pub mod embedding;
pub mod encoder;
#[doc(hidden)]
pub mod futurexiang;
mod init;
#[doc(hidden)]
pub mod layers;
pub mod modulation;
#[doc(hidden)]
pub mod onnx;
#[doc(hidden)]
pub mod parameters;
#[doc(hidden)]
pub mod pytorch;
pub mod shipped;
pub mod soda;
#[doc(hidden)]
pub mod torchvision;
mod translate;
pub mod unet;
#[doc(hidden)]
pub mod view_conditioning;
pub mod weights;

pub(crate) use embedding::waves;
pub use soda::Soda;
