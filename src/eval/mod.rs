//! Evaluation of representations: features of a frozen encoder, the protocols that score them, and
//! metrics, each in a file of its name.

pub mod alignment_uniformity;
pub mod calibration;
pub mod features;
pub mod frechet;
#[doc(hidden)]
pub mod grid;
pub mod inception;
pub mod knn;
pub mod latent_statistics;
mod lbfgs;
pub mod linear;
pub mod linear_full;
pub mod loss;
#[doc(hidden)]
pub mod matrix;
pub mod method;
#[doc(hidden)]
pub mod nearest_pixels;
pub mod precision_recall;
pub mod probe;
pub mod psnr_ssim;
#[doc(hidden)]
pub mod spectrum;
pub mod table;
pub mod tsne;
#[doc(hidden)]
pub mod validation;
pub mod whitening;
