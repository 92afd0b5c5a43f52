//! The passes of trained networks: encoding, and one evaluation of the denoiser.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::kernels::plan::{Beginning, End, Recorder};
use crate::model::Soda;
use crate::model::parameters::{self, Named};
use crate::units::bytes;
use burn::tensor::{Device, Tensor};

/// The batch sizes: a single image, and as many as a fast GPU processes in about the same time.
pub const BATCHES: [usize; 2] = [1, 8];

/// The largest buffer that a shader can bind on every GPU with WebGPU, in bytes.
pub const LARGEST_BINDING: u64 = 128 << 20;

/// Records `encode_B` and `denoise_B` for each B of [`BATCHES`] whose buffers have at most `largest`
/// bytes, usually [`LARGEST_BINDING`]. Images are `[B, side, side, 3]` in memory. `encode` takes
/// normalised images and outputs z, before any normalisation of z. `denoise` takes x_t, the
/// sinusoids of t `[B, base]`, and z, which is repeated for each stage if it has no sections.
///
/// # Errors
/// If the networks need an input that a page can't provide, use an operation for which we have no
/// kernel, or need larger buffers for a single image.
pub fn record(
    model: &Soda,
    config: &ModelConfig,
    largest: u64,
    device: &Device,
) -> Result<Recorder> {
    if config.unet.view_conditioning {
        return Err(Error::usage(
            "these weights are conditioned on views, which a page can't provide; train with \
             data.views = \"two\"",
        ));
    }
    let mut recorder = Recorder::default();
    let width = config.mixable().last().map_or(0, |stage| stage.end);
    let weights = parameters::collect(model);
    let images = |batch: usize, side: usize| {
        let memory = Tensor::<4>::zeros([batch, side, side, 3], device);
        (memory.permute([0, 3, 1, 2]), [batch, side, side, 3])
    };
    let known = |begin: &mut Beginning| {
        weights.iter().try_for_each(|Named { name, values, .. }| begin.tensor(name, values))
    };
    // A pass of B images has buffers that are at most B times as large as those of one.
    let needed = |recorder: &Recorder| -> u64 {
        recorder.plan.passes.values().flat_map(|pass| &pass.buffers).copied().max().unwrap_or(0)
    };
    for batch in BATCHES {
        if batch as u64 * needed(&recorder) > largest {
            break;
        }
        recorder.pass(
            &format!("encode_{batch}"),
            |begin| {
                known(begin)?;
                let (image, shape) = images(batch, config.sides.source);
                begin.input("image", &image, &shape)?;
                Ok(image)
            },
            |image| {
                let z = model.encoder.unnormalised(image);
                End::default().output("z", &z, &z.dims())
            },
        )?;
        recorder.pass(
            &format!("denoise_{batch}"),
            |begin| {
                known(begin)?;
                let (x_t, shape) = images(batch, config.sides.target);
                let waves = Tensor::<2>::zeros([batch, config.unet.base], device);
                let z = Tensor::<2>::zeros([batch, width], device);
                begin.input("x_t", &x_t, &shape)?;
                begin.input("waves", &waves, &waves.dims())?;
                begin.input("z", &z, &z.dims())?;
                Ok((x_t, waves, z))
            },
            |(x_t, waves, z)| {
                let [_, _, side, _] = x_t.dims();
                let prediction = model.unet.forward_waves(x_t, waves, z);
                End::default().output("prediction", &prediction, &[batch, side, side, 3])
            },
        )?;
        if batch == 1 && needed(&recorder) > largest {
            return Err(Error::usage(format!(
                "these networks need a buffer of {} for one image, and browsers may bind only {}; \
                 train with a smaller model.unet.base or data.side",
                bytes(needed(&recorder) as f64),
                bytes(largest as f64)
            )));
        }
    }
    Ok(recorder)
}
