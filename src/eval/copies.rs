//! Whether drawn images are copies of training images.

use crate::data::{IMAGE, Images};
use rayon::prelude::*;

/// Bytes that are compared before a candidate is given up.
const PART: usize = 512;

/// For each of `images` `[n, 3, 32, 32]` in [-1, 1] the nearest image of `among` and the mean squared difference of their
/// pixels in [0, 1], both taken to bytes first: 0 for a copy. `None` where `among` is empty.
///
/// Blurred images are near everything; a distance says something beside that of real images that weren't trained on.
pub fn nearest(images: &[f32], among: &Images) -> Option<Vec<(usize, f64)>> {
    if among.is_empty() {
        return None;
    }
    let find = |image: &[f32]| {
        let image: Vec<u8> = image.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        let mut best = (0, u32::MAX);
        for i in 0..among.len() {
            let mut sum = 0;
            for (a, b) in image.chunks(PART).zip(among.image(i).chunks(PART)) {
                sum += a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2)).sum::<u32>();
                if sum >= best.1 {
                    break;
                }
            }
            if sum < best.1 {
                best = (i, sum);
            }
        }
        (best.0, f64::from(best.1) / (255.0 * 255.0 * IMAGE as f64))
    };
    Some(images.par_chunks_exact(IMAGE).map(find).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::views;

    #[test]
    fn finds_copies_and_measures_what_is_none() {
        let pixels: Vec<u8> = (0..4 * IMAGE).map(|i| (crate::rng::mix(i as u64) % 200) as u8).collect();
        let among = Images::new(pixels, vec![0; 4]);
        let mut images = vec![0.0; 2 * IMAGE];
        views::plain_target(&among, &[2, 1], &mut images);
        // The second one is brighter by 51 of 255 everywhere.
        images[IMAGE..].iter_mut().for_each(|v| *v += 0.4);
        let found = nearest(&images, &among).unwrap();
        assert_eq!(found[0], (2, 0.0));
        assert_eq!(found[1].0, 1);
        assert!((found[1].1 - 0.04).abs() < 1e-9, "{found:?}");
        // Negative control: without it, another one is further away.
        let others = nearest(&images[..IMAGE], &among.select(&[0, 1, 3])).unwrap();
        assert!(others[0].1 > 0.05, "{others:?}");
        assert_eq!(nearest(&images, &among.select(&[])), None);
    }
}
