//! One training step of SODA, written out: what `soda::train::step` does, without its options.
//!
//! ```text
//! cargo run --release --example train_step
//! ```

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Distribution, Tensor};
use soda::data::loader::Loader;
use soda::diffusion::forward::{draw_levels, q_sample, times_of};
use soda::prelude::*;
use soda::rng::{self, Purpose};
use soda::train::step::Pair;

fn main() -> Result<()> {
    let config = Config::named("quick".as_ref(), &["train.batch_size=4".into()])?;
    let device = select("cpu")?.device.autodiff();
    let data = bundled()?.at(config.data.side)?;
    let schedule = Schedule::new(&config.diffusion);

    let mut model = Soda::new(&config.model, config.seed, &device);
    let mut optimizer = AdamWConfig::new().init();
    let batch_size = config.train.batch_size;
    let mut batches =
        Loader::new(data.train.clone(), config.data.clone(), batch_size, config.seed, 0)?;

    for step in 1..=3 {
        // Two views of each image: one for the encoder, one to be denoised.
        let Pair { x_source, x_0, .. } = Pair::of_batch(batches.next()?, &config, &device);

        // The source view as one vector per image, [B, 128].
        let z = model.encode(x_source);

        // The target view at a random noise level: x_t = sqrt(alpha_bar) x_0 + sqrt(1 -
        // alpha_bar) eps.
        let mut stream = rng::stream(config.seed, Purpose::Time, step);
        let levels = draw_levels(&schedule, [batch_size, 1], false, &mut stream);
        let t = times_of(&levels, &device);
        let eps = Tensor::random(x_0.dims(), Distribution::Normal(0.0, 1.0), &device);
        let x_t = q_sample(x_0, &t, eps.clone());

        // The noise, predicted from x_t and conditioned on z only (the mask keeps all of z).
        let mask = Tensor::ones([batch_size, 1], &device);
        let eps_hat = model.predict(x_t, t.time, z, mask, None, None);
        let loss = (eps_hat - eps).square().mean();

        println!("step {step}: loss {:.3}", loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(config.train.lr, model, gradients);
    }
    Ok(())
}
