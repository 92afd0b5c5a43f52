//! Splits of the training images for choosing settings without touching the test set.

use crate::rng::{self, Purpose};

/// Draws `share` of each class for validation: (training indices, validation indices), both ascending.
///
/// # Panics
/// When `share` is outside `[0, 1]`.
pub fn stratified(labels: &[u8], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    assert!((0.0..=1.0).contains(&share), "a share lies between 0 and 1, not {share}");
    let mut rng = rng::stream(seed, Purpose::Split, 0);
    let mut held_out = vec![false; labels.len()];
    for class in 0..=u8::MAX {
        let members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        let count = (share * members.len() as f64).round() as usize;
        for &m in rng::permutation(&mut rng, members.len()).iter().take(count) {
            held_out[members[m as usize]] = true;
        }
    }
    (0..labels.len()).partition(|&i| !held_out[i])
}

/// The one split that selection probes use: 10 % of each class for validation (full set: 45,000 and 5,000 images), the same for
/// every seed of a run.
pub fn selection_split(labels: &[u8]) -> (Vec<usize>, Vec<usize>) {
    stratified(labels, 0.1, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<u8> {
        (0..50_000).map(|i| (rng::mix(i) % 10) as u8).collect()
    }

    #[test]
    fn holds_a_tenth_of_each_class_out_and_every_image_once() {
        let labels = labels();
        let (train, validation) = selection_split(&labels);
        for class in 0..10 {
            let count = |indices: &[usize]| indices.iter().filter(|&&i| labels[i] == class).count();
            let all = count(&train) + count(&validation);
            assert_eq!(count(&validation), (all as f64 / 10.0).round() as usize);
        }
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
    }

    #[test]
    fn is_fixed_by_its_seed_and_takes_images_from_everywhere() {
        let labels = labels();
        let (_, validation) = selection_split(&labels);
        assert_eq!(validation, selection_split(&labels).1);
        assert_ne!(validation, stratified(&labels, 0.1, 1).1);
        let mean = validation.iter().sum::<usize>() as f64 / validation.len() as f64;
        assert!((mean - 25_000.0).abs() < 1_000.0, "mean index {mean}");
    }
}
