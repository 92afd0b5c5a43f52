//! Assigns the images of a listing to the training and test sets, and orders them.

use super::listing::{Entry, Listing, Set};
use crate::error::{Error, Result};
use crate::units::counted;

/// The share of each class that goes to the test set if the place doesn't define one.
pub const TEST_SHARE: f64 = 0.1;

/// Returns the numbers of the training and of the test entries, in order; see [`divide`].
///
/// # Errors
/// See [`check`].
pub(super) fn arrange(listing: &Listing, place: &str, share: f64) -> Result<[Vec<u32>; 2]> {
    let sets = divide(listing, share);
    check(listing, &sets, place)?;
    Ok(sets)
}

/// Returns the numbers of the training and of the test entries, in order. A set may be empty.
///
/// Entries without a set are divided, and so is a training set without a test set: within each
/// class, evenly spaced images go to the test set, one in 1 / `share`, or the last of each class
/// ([`holds_out_the_last`]). If the listing allows it, the classes take turns.
pub(super) fn divide(listing: &Listing, share: f64) -> [Vec<u32>; 2] {
    let of_class = sizes(listing);
    let classes = of_class.len();
    let mut seen = vec![0usize; classes];
    let alone = !listing.has_test_images();
    let last = holds_out_the_last(listing, share);
    let mut sets: [Vec<u32>; 2] = Default::default();
    for (number, entry) in listing.entries.iter().enumerate() {
        // A training set on its own is divided, too.
        let set = entry.set.filter(|_| !alone).unwrap_or_else(|| {
            let class = usize::from(entry.label);
            let i = seen[class];
            seen[class] += 1;
            let held_out = if last {
                i > 0 && i + 1 == of_class[class]
            } else {
                test_images(i + 1, share) > test_images(i, share)
            };
            if held_out { Set::Test } else { Set::Train }
        });
        sets[set as usize].push(number as u32);
    }
    if listing.by_turns {
        sets = sets.map(|set| by_turns(&set, &listing.entries, classes));
    }
    sets
}

/// Checks whether `share` is too small to leave any class a test image. The last image of each
/// class with several then becomes one.
pub(super) fn holds_out_the_last(listing: &Listing, share: f64) -> bool {
    let sizes = sizes(listing);
    !listing.has_test_images()
        && sizes.iter().any(|&n| n > 1)
        && sizes.iter().all(|&n| test_images(n, share) == 0)
}

/// Returns the number of test images among the first `n` images of a class.
fn test_images(n: usize, share: f64) -> usize {
    (n as f64 * share + 1e-9) as usize
}

/// Returns the number of images of each class, or of all images if there are no classes.
fn sizes(listing: &Listing) -> Vec<usize> {
    let mut sizes = vec![0; listing.classes.len().max(1)];
    listing.entries.iter().for_each(|entry| sizes[usize::from(entry.label)] += 1);
    sizes
}

/// Checks that networks and probes can be trained and evaluated on `sets`, which are the
/// [divided](divide) entries of `listing`.
///
/// # Errors
/// A set without images; a class in the test set that is missing from the training set.
pub(super) fn check(listing: &Listing, sets: &[Vec<u32>; 2], place: &str) -> Result<()> {
    let classes = listing.classes.len().max(1);
    for (set, word) in sets.iter().zip(["training", "test"]) {
        if set.is_empty() {
            let images = counted(listing.entries.len(), "image");
            let remedy = if listing.is_divided() {
                "give a class a second image, or sort them into train and test sub-folders".into()
            } else {
                format!("add {word} images")
            };
            return Err(Error::failed(format!(
                "{place} holds {images}, and none is left for the {word} set; {remedy}"
            )));
        }
    }
    let has = |set: &[u32]| {
        let mut has = vec![false; classes];
        set.iter().for_each(|&i| has[usize::from(listing.entries[i as usize].label)] = true);
        has
    };
    let [train, test] = [has(&sets[0]), has(&sets[1])];
    if let Some(class) = (0..classes).find(|&c| test[c] && !train[c]) {
        let name = &listing.classes[class];
        return Err(Error::failed(format!(
            "{place}: the test set has images of the class {name}, but the training set has none, \
             so it cannot be learnt; remove them, or add training images of it"
        )));
    }
    Ok(())
}

/// Reorders `set` so that the classes take turns, one image each, for as long as they have some.
fn by_turns(set: &[u32], entries: &[Entry], classes: usize) -> Vec<u32> {
    let mut of_class = vec![Vec::new(); classes];
    set.iter().for_each(|&i| of_class[usize::from(entries[i as usize].label)].push(i));
    let longest = of_class.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|turn| of_class.iter().filter_map(move |class| class.get(turn).copied()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: &[(u16, Option<Set>)], by_turns: bool) -> Listing {
        let entry = |&(label, set): &(u16, Option<Set>)| Entry { name: String::new(), label, set };
        Listing {
            name: String::new(),
            reading: String::new(),
            classes: vec!["a".into(), "b".into()],
            entries: entries.iter().map(entry).collect(),
            left_out: Vec::new(),
            contents: super::super::listing::files(Vec::new()),
            by_turns,
        }
    }

    #[test]
    fn a_share_of_each_class_goes_to_the_test_set_evenly_spaced() {
        let entries: Vec<_> = (0..40).map(|i| (u16::from(i >= 20), None)).collect();
        let [train, test] = arrange(&listing(&entries, false), "x", TEST_SHARE).unwrap();
        assert_eq!((train.len(), test), (36, vec![9, 19, 29, 39]));
        let [_, quarter] = arrange(&listing(&entries[..20], false), "x", 0.25).unwrap();
        assert_eq!(quarter, [3, 7, 11, 15, 19]);
        for share in [0.2, 0.3, 0.7, 1.0 / 3.0] {
            let [_, test] = arrange(&listing(&entries, false), "x", share).unwrap();
            assert_eq!(test.len(), 2 * (20.0 * share + 1e-9).floor() as usize, "{share}");
        }
        let refused = |entries: &[(u16, Option<Set>)]| {
            arrange(&listing(entries, false), "x", 0.1).unwrap_err().to_string()
        };
        // No share of one image leaves a test image.
        let message = refused(&[entries[0], entries[20]]);
        assert!(message.contains("2 images, and none is left for the test set; give"), "{message}");
        let message = refused(&[(0, Some(Set::Test))]);
        assert!(message.ends_with("none is left for the training set; add training images"));
    }

    #[test]
    fn the_last_of_each_class_is_held_out_where_the_share_leaves_none() {
        let entries = |of_class: [usize; 2]| {
            let of = |label: u16| vec![(label, None); of_class[usize::from(label)]];
            [of(0), of(1)].concat()
        };
        let test = |entries: &[(u16, Option<Set>)]| {
            arrange(&listing(entries, false), "x", TEST_SHARE).unwrap()[1].clone()
        };
        assert_eq!(test(&entries([9, 2])), [8, 10]);
        assert_eq!(test(&entries([1, 9])), [9], "a single image is for training");
        assert_eq!(test(&entries([10, 9])), [9], "the share leaves one");
        assert_eq!(test(&[(0, Some(Set::Train)), (0, Some(Set::Train))]), [1]);
        // Where there is a test set, images of neither set are training images.
        let given = [(0, Some(Set::Test)), (0, None), (0, None)];
        assert_eq!(test(&given), [0]);
        assert!(!holds_out_the_last(&listing(&given, false), TEST_SHARE));
    }

    #[test]
    fn classes_take_turns_and_given_sets_stay() {
        let set = |label, set| (label, Some(set));
        let entries = [
            set(0, Set::Train),
            set(0, Set::Train),
            set(1, Set::Train),
            set(1, Set::Test),
            set(0, Set::Test),
        ];
        assert_eq!(
            arrange(&listing(&entries, true), "x", 0.1).unwrap(),
            [vec![0, 2, 1], vec![4, 3]]
        );
        assert_eq!(
            arrange(&listing(&entries, false), "x", 0.1).unwrap(),
            [vec![0, 1, 2], vec![3, 4]]
        );
        let alone: Vec<_> = (0..10).map(|_| set(0, Set::Train)).collect();
        assert_eq!(arrange(&listing(&alone, true), "x", 0.1).unwrap()[1], [9]);
        let lacking = [set(0, Set::Train), set(1, Set::Test)];
        let message = arrange(&listing(&lacking, true), "x", 0.1).unwrap_err().to_string();
        assert!(
            message.contains("images of the class b, but the training set has none"),
            "{message}"
        );
    }
}
