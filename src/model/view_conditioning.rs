//! View conditioning: the position of each pixel of the denoiser's image within the encoder's
//! image. SODA gives the denoiser camera poses as a map of rays; here the geometry is that of crops
//! and flips, and the map holds positions.

use super::embedding::sin_cos;
use burn::tensor::{Device, Tensor, TensorData};

/// The number of frequencies along each axis; their periods are 8, 4, 2 and 1 times half the side
/// of the source view.
const OCTAVES: usize = 4;

/// The number of channels of the map: a sine and a cosine for each octave and axis.
pub const CHANNELS: usize = 4 * OCTAVES;

/// Returns the sines and cosines of every pixel's position in the source view,
/// `[B, CHANNELS, side, side]`. `view` `[B, 4]` places each image in its source by scale_x,
/// offset_x, scale_y, offset_y (coordinates run from -1, left or top, to 1).
pub fn position_map(view: Tensor<2>, side: usize) -> Tensor<4> {
    let ([batch, _], device) = (view.dims(), view.device());
    let axis = |first: usize, shape: [usize; 4]| {
        let centres: Vec<f32> = (0..side).map(|i| (2 * i + 1) as f32 / side as f32 - 1.0).collect();
        let own = Tensor::<4>::from_data(TensorData::new(centres, shape), &device);
        let [scale, offset] =
            [first, first + 1].map(|i| view.clone().narrow(1, i, 1).reshape([batch, 1, 1, 1]));
        (own * scale + offset).expand([batch, 1, side, side])
    };
    let (x, y) = (axis(0, [1, 1, 1, side]), axis(2, [1, 1, side, 1]));
    let waves = (0..OCTAVES).flat_map(|octave| {
        let frequency = std::f32::consts::FRAC_PI_4 * (1 << octave) as f32;
        [x.clone() * frequency, y.clone() * frequency].into_iter().flat_map(sin_cos)
    });
    Tensor::cat(waves.collect(), 1)
}

/// Returns the view that is the source itself, for each of `batch` images, `[B, 4]`.
pub fn same_view(batch: usize, device: &Device) -> Tensor<2> {
    Tensor::<2>::from_data([[1.0f32, 0.0, 1.0, 0.0]], device).expand([batch, 4])
}
