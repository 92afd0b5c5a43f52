//! Resizes images of three planes, in the same way as image files.

use super::resize;
use crate::data::planes::{allocate, bytes_of};
use crate::error::Result;
use crate::progress::Progress;
use rayon::prelude::*;

/// Resizes `pixels` `[N, 3, own, own]` to `[N, 3, side, side]`, in the same way as image files.
///
/// # Errors
/// If they don't fit into memory.
pub(in crate::data) fn resample(pixels: &[u8], own: usize, side: usize) -> Result<Vec<u8>> {
    let images = pixels.chunks_exact(bytes_of(own));
    let mut out = allocate(images.len(), side)?;
    let progress = Progress::new("resampling images", Some(images.len()));
    out.par_chunks_exact_mut(bytes_of(side)).zip(pixels.par_chunks_exact(bytes_of(own))).for_each(
        |(out, image)| {
            out.copy_from_slice(&resample_one(image, own, side));
            progress.add(1);
        },
    );
    Ok(out)
}

/// Resizes the image `[3, own, own]` to `side` pixels a side, in the same way as image files.
pub(in crate::data) fn resample_one(image: &[u8], own: usize, side: usize) -> Vec<u8> {
    let plane = own * own;
    let row = |y: usize, out: &mut [f32]| {
        let (out, _) = out.as_chunks_mut::<3>();
        let place = |x: usize, channel: usize| f32::from(image[channel * plane + y * own + x]);
        out.iter_mut()
            .enumerate()
            .for_each(|(x, pixel)| *pixel = std::array::from_fn(|channel| place(x, channel)));
    };
    resize::planes::<3>(own, side, row)
}
