//! Evaluation of representations: features of a frozen encoder, the protocols that score them, and
//! metrics, each in a file of its name.

pub mod alignment_uniformity;
pub mod calibration;
pub mod features;
pub mod frechet;
pub mod grid;
pub mod inception;
pub mod knn;
pub mod latent_statistics;
mod lbfgs;
pub mod linear;
pub mod linear_full;
pub mod loss;
pub mod matrix;
pub mod method;
pub mod nearest_pixels;
pub mod precision_recall;
pub mod probe;
pub mod psnr_ssim;
pub mod spectrum;
pub mod table;
pub mod tsne;
pub mod validation;
pub mod whitening;
