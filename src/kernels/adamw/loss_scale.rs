//! Dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2): the loss is
//! multiplied by a scale, so that gradients which f16 would round to 0 survive the backward pass;
//! the update divides by the scale again. A step whose gradients overflow is skipped and the scale
//! is halved; after many steps without overflow it is doubled. All of this happens on the device,
//! without waiting for it.

use crate::kernels::choice::references;
use crate::kernels::shader::info;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData, assert_shape};
use burn_flex::Flex;

/// The number of values in a state: the scale, finite steps since it last changed, skipped steps in
/// total, and consecutive skipped steps.
pub const STATE: usize = 4;

/// The state at the start of a run. (Scale and growth are those of PyTorch's `GradScaler`.)
pub const BEGINNING: [f32; STATE] = [65_536.0, 0.0, 0.0, 0.0];

/// The number of finite steps after which the scale is doubled.
const INTERVAL: f32 = 2_000.0;
/// The smallest scale. Up to [`MOST`], products with the scale are far from f32's own limits.
const LEAST: f32 = 1.0;
/// The largest scale, see [`LEAST`].
const MOST: f32 = 16_777_216.0;

info! {
    /// The constants of a step: the info block of its shader.
    struct LossScaleInfo {
        /// The limit of the norm; 0: no limit.
        limit: f32,
        /// The number of finite steps after which the scale grows.
        interval: f32,
        /// The largest scale.
        most: f32,
        /// The smallest scale.
        least: f32,
    }
}

/// The results of one step of loss scaling, on any backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct Scaled<B: Backend> {
    /// The clip, `[1]`, see [`Scaling`].
    pub clip: FloatTensor<B>,
    /// The norm, `[1]`.
    pub norm: FloatTensor<B>,
    /// The next state, `[4]`.
    pub state: FloatTensor<B>,
}

/// The results of one step of loss scaling.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// The factor to multiply the scaled gradients by, `[1]`; below 0 if they aren't finite.
    pub clip: Tensor<1>,
    /// The norm of the gradients without the scale, before clipping, `[1]`.
    pub norm: Tensor<1>,
    /// The next state, `[4]`.
    pub state: Tensor<1>,
}

/// The operation on every backend, by default on the host. It isn't differentiable.
#[backend_extension(Cube, Flex)]
pub trait LossScale: Backend {
    /// Computes [`loss_scale`] with the constants of `info`.
    fn next(
        norm: FloatTensor<Self>,
        state: FloatTensor<Self>,
        info: LossScaleInfo,
    ) -> Scaled<Self> {
        on_host::<Self>(norm, state, info)
    }
}

impl LossScale for Flex {}

/// Computes one step of dynamic loss scaling from the `norm` `[1]` of all scaled gradients and the
/// `state` `[4]`, and clips the unscaled norm at `limit` (0: no clipping).
///
/// # Panics
/// If a shape doesn't fit.
pub fn loss_scale(norm: Tensor<1>, state: Tensor<1>, limit: f64) -> Scaling {
    assert_shape!(norm, [1]);
    assert_shape!(state, [STATE]);
    let info = LossScaleInfo { limit: limit as f32, interval: INTERVAL, most: MOST, least: LEAST };
    let (norm, state) = (norm.into_dispatch(), state.into_dispatch());
    let next = if references() { on_host::<Dispatch> } else { <Dispatch as LossScale>::next };
    let Scaled { clip, norm, state } = next(norm, state, info);
    let [clip, norm, state] = [clip, norm, state].map(Tensor::from_dispatch);
    Scaling { clip, norm, state }
}

/// Computes the step on plain values: clip, norm without the scale, next state.
fn next(
    norm: f32,
    [scale, streak, skipped, row]: [f32; STATE],
    info: LossScaleInfo,
) -> (f32, f32, [f32; STATE]) {
    if !norm.is_finite() {
        return (-1.0, norm, [(scale * 0.5).max(info.least), 0.0, skipped + 1.0, row + 1.0]);
    }
    let length = norm / scale;
    let factor = if info.limit > 0.0 { (info.limit / (length + 1e-6)).min(1.0) } else { 1.0 };
    let grown = if streak + 1.0 >= info.interval {
        [(scale * 2.0).min(info.most), 0.0]
    } else {
        [scale, streak + 1.0]
    };
    (factor / scale, length, [grown[0], grown[1], skipped, 0.0])
}

/// Computes the step on the host, with values read from the device and written back to it.
pub(super) fn on_host<B: Backend>(
    norm: FloatTensor<B>,
    state: FloatTensor<B>,
    info: LossScaleInfo,
) -> Scaled<B> {
    let device = norm.device();
    let read = |x| {
        let data = pollster::block_on(B::float_into_data(x))
            .unwrap_or_else(|e| panic!("reading the loss scale: {e:?}"));
        data.try_into_vec::<f32>().expect("f32")
    };
    let (norm, state) = (read(norm)[0], read(state));
    let (clip, norm, state) = next(norm, *state.first_chunk().expect("four numbers"), info);
    let write = |values: &[f32]| {
        B::float_from_data(TensorData::new(values.to_vec(), [values.len()]), &device)
    };
    Scaled { clip: write(&[clip]), norm: write(&[norm]), state: write(&state) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Runs one step for each of `norms`, starting from `state`, and returns the clips and states.
    fn run(
        device: &Device,
        state: [f32; STATE],
        norms: &[f32],
        limit: f64,
    ) -> Vec<(f32, [f32; STATE])> {
        let mut state = Tensor::<1>::from_floats(state, device);
        let values = |x: Tensor<1>| x.into_data().try_into_vec::<f32>().expect("f32");
        let mut step = |norm: &f32| {
            let scaling = loss_scale(Tensor::from_floats([*norm], device), state.clone(), limit);
            state = scaling.state.clone();
            (values(scaling.clip)[0], *values(scaling.state).first_chunk().expect("four"))
        };
        norms.iter().map(&mut step).collect()
    }

    fn devices() -> Vec<Device> {
        vec![Device::flex(), crate::device::select("wgpu").expect("an adapter").device]
    }

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_many_finite_steps() {
        for device in devices() {
            let (inf, nan) = (f32::INFINITY, f32::NAN);
            let found = run(&device, BEGINNING, &[inf, nan, 32_768.0, -inf], 1.0);
            let want = [
                (-1.0, [32_768.0, 0.0, 1.0, 1.0]),
                (-1.0, [16_384.0, 0.0, 2.0, 2.0]),
                // An unscaled norm of 2 is clipped to 1.
                (1.0 / (2.0 + 1e-6) / 16_384.0, [16_384.0, 1.0, 2.0, 0.0]),
                (-1.0, [8_192.0, 0.0, 3.0, 1.0]),
            ];
            for ((clip, state), (want_clip, want_state)) in found.iter().zip(want) {
                // A division and a multiplication, each within 2.5 ulp.
                assert!((clip - want_clip).abs() <= 1e-6 * want_clip.abs(), "{clip} {want_clip}");
                assert_eq!(*state, want_state);
            }
            let found = run(&device, [1024.0, 1_998.0, 5.0, 0.0], &[1.0, 1.0, 1.0], 0.0);
            assert_eq!(found[0], (1.0 / 1024.0, [1024.0, 1_999.0, 5.0, 0.0]));
            assert_eq!(found[1], (1.0 / 1024.0, [2048.0, 0.0, 5.0, 0.0]));
            assert_eq!(found[2], (1.0 / 2048.0, [2048.0, 1.0, 5.0, 0.0]));
            assert_eq!(
                run(&device, [1.0, 0.0, 0.0, 0.0], &[nan], 0.0)[0].1[0],
                1.0,
                "never below 1"
            );
            assert_eq!(
                run(&device, [MOST, 1_999.0, 0.0, 0.0], &[1.0], 0.0)[0].1[0],
                MOST,
                "never above {MOST}"
            );
        }
    }
}
