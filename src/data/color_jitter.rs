//! SimCLR's colour distortion (Chen et al., arXiv 2002.05709, appendix A): torchvision's
//! ColorJitter and RandomGrayscale, on bytes, computed as PIL does.

use super::rand_augment::{Op, grey};
use crate::rng::{self, Stream};
use rand::RngExt;

/// The range of brightness, contrast and saturation, and that of the hue, as fractions of the
/// strength.
const RANGES: (f64, f64) = (0.8, 0.2);

/// Changes brightness, contrast, saturation and hue of an image `[3, side, side]`, in random order.
/// The first three are scaled by factors uniform within 1 +- 0.8 `strength`, the hue is rotated by
/// an angle uniform within +- 0.2 `strength` of the colour circle.
pub fn color_jitter(image: &mut [u8], strength: f32, rng: &mut Stream) {
    let strength = f64::from(strength);
    let order = rng::permutation(rng, 4);
    let mut within = |range: f64| range * (2.0 * rng.random::<f64>() - 1.0);
    let [brightness, contrast, saturation] = std::array::from_fn(|_| within(RANGES.0 * strength));
    let turn = within(RANGES.1 * strength);
    for change in order {
        match change {
            0 => Op::Brightness.apply(image, brightness),
            1 => Op::Contrast.apply(image, contrast),
            2 => Op::Color.apply(image, saturation),
            _ => turn_hue(image, turn),
        }
    }
}

/// Converts an image `[3, side, side]` to grey: each channel becomes its luma.
pub fn grayscale(image: &mut [u8]) {
    let grey = grey(image);
    image.chunks_exact_mut(grey.len()).for_each(|plane| plane.copy_from_slice(&grey));
}

/// Rotates the hue by `turn` of the colour circle, in PIL's byte-valued HSV.
fn turn_hue(image: &mut [u8], turn: f64) {
    // As in torchvision: truncated to a whole number of 1/255, with the byte wrapping around.
    let turn = (turn * 255.0) as i32 as u8;
    let plane = image.len() / 3;
    let (red, rest) = image.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let [h, s, v] = to_hsv([*r, *g, *b]);
        [*r, *g, *b] = to_rgb([h.wrapping_add(turn), s, v]);
    }
}

/// PIL's rgb2hsv, at PIL's precision.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = [r, g, b].map(|c| f32::from(most - c) / range);
    let sixths = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// PIL's hsv2rgb.
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let single = |value: f64| f64::from(value as f32);
    let sixths = f64::from(h) * 6.0 / 255.0;
    let (sector, saturation) = (sixths.floor(), single(f64::from(s) / 255.0));
    let part = single(sixths - sector);
    let darker = |share: f64| (f64::from(v) * (1.0 - share)).round() as u8;
    let [p, q, t] = [saturation, saturation * part, saturation * (1.0 - part)].map(darker);
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests;
