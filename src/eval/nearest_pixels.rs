//! Detection of generated images that are copies of training images.

use crate::data::crop::resized;
use crate::data::views::to_byte;
use crate::data::{Images, bytes_of};
use crate::error::Result;
use crate::progress::Progress;
use rayon::prelude::*;

/// The number of bytes compared between checks whether a candidate can still win.
const PART: usize = 512;
/// The bytes of images that are held in memory at once.
const HELD: usize = 64 << 20;

/// Finds, for each of `images` `[n, 3, side, side]` in [-1, 1], the nearest image of `among`,
/// resized to that side, and the mean squared difference of their pixels in [0, 1], both rounded to
/// bytes first: 0 for a copy. Returns `None` if `among` is empty.
///
/// Blurred images are near everything; a distance is only informative compared with that of real
/// images that weren't trained on.
///
/// # Errors
/// If `among` is in a file that can't be read.
pub fn nearest(images: &[f32], side: usize, among: &Images) -> Result<Option<Vec<(usize, f64)>>> {
    if among.is_empty() {
        return Ok(None);
    }
    let bytes = |image: &[f32]| image.iter().map(|&v| to_byte(v)).collect();
    let queries: Vec<Vec<u8>> = images.par_chunks_exact(bytes_of(side)).map(bytes).collect();
    let mut best = vec![(0, u64::MAX); queries.len()];
    let progress = Progress::new("searching training images", Some(among.len()));
    let one = |i| among.image(i).map(|image| resized(&image, side).into_owned());
    let at_once = (HELD / bytes_of(side)).max(1);
    for first in (0..among.len()).step_by(at_once) {
        let last = among.len().min(first + at_once);
        let others: Vec<Vec<u8>> = (first..last).into_par_iter().map(one).collect::<Result<_>>()?;
        best.par_iter_mut().zip(&queries).for_each(|(best, query)| {
            improve(best, query, &others, first);
        });
        progress.add(others.len());
    }
    let mean = |(index, sum)| (index, sum as f64 / (255.0 * 255.0 * bytes_of(side) as f64));
    Ok(Some(best.into_iter().map(mean).collect()))
}

/// Sets `best` to the index and the sum of squared differences of the image of `others` that is
/// nearest to `query`, if it is nearer than `best`. The first of `others` has the index `first`.
fn improve(best: &mut (usize, u64), query: &[u8], others: &[Vec<u8>], first: usize) {
    for (i, other) in others.iter().enumerate() {
        let mut sum = 0;
        for (a, b) in query.chunks(PART).zip(other.chunks(PART)) {
            sum += u64::from(
                a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2)).sum::<u32>(),
            );
            if sum >= best.1 {
                break;
            }
        }
        if sum < best.1 {
            *best = (first + i, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::views;

    const SIDE: usize = 40;
    const IMAGE: usize = bytes_of(SIDE);

    #[test]
    fn finds_copies_and_measures_the_distance_of_others() {
        let pixels: Vec<u8> =
            (0..4 * IMAGE).map(|i| (crate::rng::mix(i as u64) % 200) as u8).collect();
        let among = Images::new(SIDE, pixels, vec![0; 4]);
        let mut images = vec![0.0; 2 * IMAGE];
        views::plain_target(&among, &[2, 1], SIDE, &mut images).unwrap();
        // The second one is brighter by 51 of 255 everywhere.
        images[IMAGE..].iter_mut().for_each(|v| *v += 0.4);
        let found = nearest(&images, SIDE, &among).unwrap().unwrap();
        assert_eq!(found[0], (2, 0.0));
        assert_eq!(found[1].0, 1);
        assert!((found[1].1 - 0.04).abs() < 1e-9, "{found:?}");
        // Negative control: without the copy, the nearest image is further away.
        let others = nearest(&images[..IMAGE], SIDE, &among.select(&[0, 1, 3])).unwrap().unwrap();
        assert!(others[0].1 > 0.05, "{others:?}");
        assert_eq!(nearest(&images, SIDE, &among.select(&[])).unwrap(), None);
    }
}
