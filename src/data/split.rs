//! Splits of labelled images, for choosing settings without touching the test set and for learning
//! from few labels.

use crate::rng::{self, Purpose};
use std::collections::BTreeMap;

/// Samples `share` of each class for validation. Returns (training indices, validation indices),
/// both ascending.
///
/// # Panics
/// When `share` is outside `[0, 1]`.
pub fn stratified<L: Copy + Ord>(labels: &[L], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    assert!((0.0..=1.0).contains(&share), "a share lies between 0 and 1, not {share}");
    let held_out = draw(labels, seed, 0, |members| (share * members as f64).round() as usize);
    (0..labels.len()).partition(|&i| !held_out[i])
}

/// Returns the fixed split that selection probes use: 10 % of each class for validation (on the
/// full set 45,000 training and 5,000 validation images), the same for every seed of a run.
pub fn selection_split<L: Copy + Ord>(labels: &[L]) -> (Vec<usize>, Vec<usize>) {
    stratified(labels, 0.1, 0)
}

/// Samples `share` of the images of each class, at least one per class, and returns their indices,
/// ascending. These are the labels that a label-efficiency probe may use. With the same seed, a
/// smaller share is a subset of every larger one.
///
/// # Panics
/// When `share` is outside `[0, 1]`.
pub fn few_labels<L: Copy + Ord>(labels: &[L], share: f64, seed: u64) -> Vec<usize> {
    assert!((0.0..=1.0).contains(&share), "a share lies between 0 and 1, not {share}");
    let chosen =
        draw(labels, seed, 1, |members| ((share * members as f64).round() as usize).max(1));
    (0..labels.len()).filter(|&i| chosen[i]).collect()
}

/// Marks `count(members)` random members of each class, class by class, with the random stream
/// `index`.
fn draw<L: Copy + Ord>(
    labels: &[L],
    seed: u64,
    index: u64,
    count: impl Fn(usize) -> usize,
) -> Vec<bool> {
    let mut classes: BTreeMap<L, Vec<usize>> = BTreeMap::new();
    labels.iter().enumerate().for_each(|(i, &label)| classes.entry(label).or_default().push(i));
    let mut rng = rng::stream(seed, Purpose::Split, index);
    let mut marked = vec![false; labels.len()];
    for members in classes.values() {
        for &m in rng::permutation(&mut rng, members.len()).iter().take(count(members.len())) {
            marked[members[m as usize]] = true;
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<u8> {
        (0..50_000).map(|i| (rng::mix(i) % 10) as u8).collect()
    }

    #[test]
    fn holds_out_a_tenth_of_each_class_and_every_image_appears_once() {
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
        // Published results use this split, so it must not change.
        assert_eq!(validation[..5], [4, 29, 32, 40, 42]);
    }

    #[test]
    fn few_labels_hold_every_class_and_grow_with_their_share() {
        let mut labels: Vec<u16> = labels().into_iter().map(u16::from).collect();
        labels[7] = 999;
        let shares = [0.0, 0.001, 0.01, 0.5, 1.0].map(|share| few_labels(&labels, share, 3));
        for (chosen, share) in shares.iter().zip([0.0, 0.001, 0.01, 0.5, 1.0]) {
            for class in (0..10).chain([999]) {
                let count = |indices: &mut dyn Iterator<Item = usize>| {
                    indices.filter(|&i| labels[i] == class).count()
                };
                let all = count(&mut (0..labels.len())) as f64;
                assert_eq!(
                    count(&mut chosen.iter().copied()),
                    ((share * all).round() as usize).max(1),
                    "{share} of {class}"
                );
            }
        }
        for (few, more) in shares.iter().zip(&shares[1..]) {
            assert!(few.iter().all(|i| more.binary_search(i).is_ok()));
        }
        assert_ne!(shares[2], few_labels(&labels, 0.01, 4));
    }
}
