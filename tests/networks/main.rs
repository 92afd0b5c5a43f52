//! The networks and their training, in the test's own process.

#[path = "../common/mod.rs"]
mod common;
mod denoising;
mod inception;
mod library;
mod mixed;
mod modulation;
mod networks;
mod ranks;
mod training;
mod view_conditioning;

use burn::tensor::Tensor;
use soda::config::TrainConfig;
use soda::kernels::adamw;
use soda::model::Soda;
use soda::train::ema::Ema;
use soda::train::optim::{AdamW, ByName};

/// Updates every parameter and its average once, as a single process does; returns the networks and
/// the norm of the gradients.
fn update(
    optim: &mut AdamW,
    lr: f64,
    model: Soda,
    grads: ByName,
    ema: &mut Ema,
    config: &TrainConfig,
) -> (Soda, Tensor<1>) {
    let norm = adamw::norm(grads.values().cloned().collect());
    optim.update(lr, model, (grads, norm), &|_| true, ema, config)
}
