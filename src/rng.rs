//! Counter-based random streams: one seed, one independent stream per purpose and index.
//!
//! No stream carries state between steps: step 17 samples from stream 17. A resumed run therefore
//! samples the same values as an uninterrupted one, whatever the number of threads or the device.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::StandardNormal;

/// The generator behind every stream (portable: the same values on every machine).
pub type Stream = Xoshiro256PlusPlus;

/// The purpose of a stream; different purposes have independent streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; index = hash of the parameter's path.
    Weights = 1,
    /// Order of the images; index = epoch.
    Order = 2,
    /// Views of an image; index = [`pair`] of epoch and image.
    Views = 3,
    /// Diffusion times t; index = step.
    Time = 4,
    /// Noise eps added in q_sample; index = step.
    Noise = 5,
    /// Guidance dropout and layer masks; index = step.
    Masks = 6,
    /// Dropout inside the denoiser; index = step.
    Dropout = 7,
    /// Initial noise and per-step noise of a sampler; index = sample or step, 2^64 - 1 = the linear
    /// decoder's residual.
    Sampling = 8,
    /// Data splits; index 0 = validation, 1 = few labels and (under seed 0) the order of scores
    /// during training, 2 = images of an exported page, 3 = images that calibrate BatchNorm.
    Split = 9,
    /// Probe training under its own seed; index 0 = initial weights, 1 + epoch = order, [`pair`] of
    /// epoch and image = views.
    Probe = 10,
    /// Values for tests only.
    Test = 11,
    /// z sampled from a latent prior, index = sample; from index 2^64 - 4 on its fit and that of the
    /// linear decoder.
    Latent = 12,
    /// Noise added to an image when features are extracted from the denoiser; index = hash of its
    /// pixels.
    Features = 13,
    /// Subsets of images for a kernel distance; index = subset.
    Sets = 14,
}

/// Returns stream number `index` of `purpose` under `seed`.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> Stream {
    let mut bytes = [0u8; 32];
    let words = [seed, purpose as u64, index, 0x5eed_50da];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&mix(word ^ 0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    let mut rng = Stream::from_seed(bytes);
    // Let differences in a few bits of the state diffuse before the first value is used.
    for _ in 0..8 {
        rng.next_u64();
    }
    rng
}

/// Combines two indices (epoch and image, step and layer, ..) into one.
pub fn pair(a: u64, b: u64) -> u64 {
    mix(a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b)
}

/// Applies SplitMix64's finaliser: a bijection of the 64-bit integers that leaves no visible
/// structure.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns `n` independent samples of N(0, 1).
pub fn normal(rng: &mut Stream, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.sample::<f32, _>(StandardNormal)).collect()
}

/// Returns a random permutation of `0..n` (Fisher-Yates).
pub fn permutation(rng: &mut Stream, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_purpose_index_and_seed() {
        let draw = |seed, purpose, index| normal(&mut stream(seed, purpose, index), 4);
        let first = draw(1, Purpose::Noise, 7);
        assert_eq!(first, draw(1, Purpose::Noise, 7));
        for other in
            [draw(2, Purpose::Noise, 7), draw(1, Purpose::Time, 7), draw(1, Purpose::Noise, 8)]
        {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn normal_samples_have_mean_0_and_variance_1_within_five_standard_errors() {
        let n = 100_000;
        // One sample from each of many streams, as in step-indexed use.
        let draws: Vec<f32> =
            (0..n).map(|i| normal(&mut stream(3, Purpose::Test, i), 1)[0]).collect();
        let mean = draws.iter().sum::<f32>() / n as f32;
        let variance = draws.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n as f32;
        assert!(mean.abs() < 5.0 / (n as f32).sqrt(), "mean {mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / n as f32).sqrt(), "variance {variance}");
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = permutation(&mut stream(1, Purpose::Order, 0), 1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
