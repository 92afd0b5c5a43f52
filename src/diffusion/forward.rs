//! The forward process.

use super::Schedule;
use crate::rng::Stream;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// Diffusion times of a batch.
#[derive(Clone, Debug)]
pub struct Times {
    /// t / T, `[B]`: what the denoiser is told.
    pub time: Tensor<1>,
    /// sqrt(alpha_bar_t), `[B, 1, 1, 1]`.
    pub signal: Tensor<4>,
    /// sqrt(1 - alpha_bar_t), `[B, 1, 1, 1]`.
    pub noise: Tensor<4>,
}

/// The tensors that belong to the times `t` in 1..=T, one an image.
pub fn times(schedule: &Schedule, t: &[usize], device: &Device) -> Times {
    let b = t.len();
    let column = |f: &dyn Fn(f64) -> f64| {
        let values: Vec<f32> = t.iter().map(|&t| f(schedule.alpha_bar(t)) as f32).collect();
        Tensor::from_data(TensorData::new(values, [b, 1, 1, 1]), device)
    };
    let time: Vec<f32> = t.iter().map(|&t| schedule.time(t)).collect();
    Times {
        time: Tensor::from_data(TensorData::new(time, [b]), device),
        signal: column(&f64::sqrt),
        noise: column(&|a| (1.0 - a).sqrt()),
    }
}

/// t drawn uniformly from 1..=T for each of `batch` images.
pub fn draw_t(schedule: &Schedule, batch: usize, stream: &mut Stream, device: &Device) -> Times {
    let t: Vec<usize> = (0..batch).map(|_| stream.random_range(1..=schedule.steps())).collect();
    times(schedule, &t, device)
}

/// x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps; all images `[B, 3, side, side]`.
pub fn q_sample(x_0: Tensor<4>, times: &Times, eps: Tensor<4>) -> Tensor<4> {
    x_0 * times.signal.clone() + eps * times.noise.clone()
}
