//! Resizes square images in floating point throughout: with intermediate sums rounded to bytes,
//! pixels would be off by up to 30 of 255.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// The number of values converted at a time, so that a large image takes little extra memory.
const STRIP: usize = 1 << 20;

/// Resizes a square image of `side` pixels a side to the planes `[3, wanted, wanted]` with a
/// Lanczos filter (enlarging with Catmull-Rom; unchanged if it already has that side). `row` writes
/// row number `y` as `side` pixels of `C` values from 0 to 255; `C` is 1 for grey and 3 for red,
/// green and blue.
pub(super) fn planes<const C: usize>(
    side: usize,
    wanted: usize,
    row: impl Fn(usize, &mut [f32]),
) -> Vec<u8> {
    let strip = (STRIP / (side * C)).clamp(1, side);
    let mut wide = vec![0.0; strip * side * C];
    let mut narrow = vec![0.0; side * wanted * C];
    let mut resizer = Resizer::new();
    for (i, narrow) in narrow.chunks_mut(strip * wanted * C).enumerate() {
        let rows = narrow.len() / (wanted * C);
        let wide = &mut wide[..rows * side * C];
        wide.chunks_exact_mut(side * C).enumerate().for_each(|(y, out)| row(i * strip + y, out));
        resize::<C>(&mut resizer, wide, [side, rows], narrow, [wanted, rows]);
    }
    let mut out = vec![0.0; wanted * wanted * C];
    resize::<C>(&mut resizer, &mut narrow, [wanted, side], &mut out, [wanted, wanted]);
    let (pixels, _) = out.as_chunks::<C>();
    // Filters overshoot, but the conversion saturates.
    (0..3)
        .flat_map(|channel| pixels.iter().map(move |pixel| (pixel[channel % C] + 0.5) as u8))
        .collect()
}

/// Resizes `from`, of `[width, height]` pixels of `C` values, to the size of `to`.
fn resize<const C: usize>(
    resizer: &mut Resizer,
    from: &mut [f32],
    [w, h]: [usize; 2],
    to: &mut [f32],
    [new_w, new_h]: [usize; 2],
) {
    if [w, h] == [new_w, new_h] {
        return to.copy_from_slice(from);
    }
    let pixel = if C == 1 { PixelType::F32 } else { PixelType::F32x3 };
    let filter = if w > new_w || h > new_h { FilterType::Lanczos3 } else { FilterType::CatmullRom };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let from = ImageRef::new(w as u32, h as u32, bytemuck::cast_slice(from), pixel)
        .expect("as many values as pixels");
    let mut to =
        Image::from_slice_u8(new_w as u32, new_h as u32, bytemuck::cast_slice_mut(to), pixel)
            .expect("as above");
    resizer.resize(&from, &mut to, &options).expect("pixels of the same type");
}
