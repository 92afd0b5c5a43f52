use super::*;
use crate::data::formats::tests::{bytes, contents, left_out, refusal, rows};

/// Writes images whose planes are column-major, with these labels.
fn write(folder: &Path, part: &str, labels: &[u8]) {
    std::fs::create_dir_all(folder).unwrap();
    let pixel = |i: usize, k: usize| {
        let (channel, column, row) = (k / (SIDE * SIDE), k / SIDE % SIDE, k % SIDE);
        value(i, channel, row, column)
    };
    let images: Vec<u8> =
        (0..labels.len()).flat_map(|i| (0..IMAGE).map(move |k| pixel(i, k))).collect();
    std::fs::write(folder.join(format!("{part}_X.bin")), images).unwrap();
    std::fs::write(folder.join(format!("{part}_y.bin")), labels).unwrap();
}

fn value(i: usize, channel: usize, row: usize, column: usize) -> u8 {
    (31 * i + 3 * channel + row * column + column) as u8
}

#[test]
fn reads_labels_and_transposes_the_planes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    write(&folder, "train", &[1, 10, 3]);
    write(&folder, "test", &[2]);
    std::fs::write(folder.join(UNLABELED), vec![0; 2 * IMAGE]).unwrap();
    for place in [dir.path(), &folder] {
        let listing = list(place).unwrap().expect("STL-10");
        let expected =
            [("train_X.bin:0", 0), ("train_X.bin:1", 9), ("train_X.bin:2", 2), ("test_X.bin:0", 1)];
        let set = |name: &str| Some(if name.starts_with("train") { Set::Train } else { Set::Test });
        assert_eq!(rows(&listing), expected.map(|(name, label)| (name, label, set(name))));
        assert_eq!(
            (&listing.classes[2][..], left_out(&listing)),
            ("car", vec![("images without labels", 2)])
        );
        let images = contents(&listing).unwrap();
        let at = |i: usize, channel: usize, row: usize, column: usize| {
            bytes(&images[i])[(channel * SIDE + row) * SIDE + column]
        };
        for (i, of_set) in [(0, 0), (2, 2), (3, 0)] {
            assert!(matches!(images[i], Content::Planes { side: SIDE, .. }));
            for (channel, row, column) in [(0, 0, 1), (1, 5, 2), (2, 95, 3), (2, 2, 95)] {
                assert_eq!(at(i, channel, row, column), value(of_set, channel, row, column));
            }
        }
    }
    std::fs::write(folder.join("class_names.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n").unwrap();
    assert_eq!(list(&folder).unwrap().unwrap().classes[9], "j");
    std::fs::write(folder.join("class_names.txt"), "a\nb\n").unwrap();
    assert!(refusal(&folder).contains("class_names.txt has 2 names instead of ten"));
}

#[test]
fn unlabelled_images_alone_are_a_training_set_without_classes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(UNLABELED), vec![7; 2 * IMAGE]).unwrap();
    let listing = list(dir.path()).unwrap().unwrap();
    assert_eq!((listing.entries.len(), listing.classes.len(), listing.left_out.len()), (2, 0, 0));
    assert_eq!(
        (rows(&listing)[1], contents(&listing).unwrap().len()),
        (("unlabeled_X.bin:1", 0, Some(Set::Train)), 2)
    );
}

#[test]
fn says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    assert!(list(dir.path()).unwrap().is_none());
    write(dir.path(), "train", &[1, 2]);
    let (images, labels) = (dir.path().join("train_X.bin"), dir.path().join("train_y.bin"));
    std::fs::write(&labels, [1, 2, 3]).unwrap();
    assert!(
        refusal(dir.path()).contains("train_y.bin has 3 labels for the 2 images of train_X.bin")
    );
    std::fs::write(&labels, [1, 0]).unwrap();
    assert!(
        refusal(dir.path())
            .contains("train_y.bin has the label 0 at image 1, which is not 1 to 10")
    );
    std::fs::remove_file(&labels).unwrap();
    assert!(
        refusal(dir.path()).contains("train_y.bin is missing; unpack stl10_binary.tar.gz again")
    );
    std::fs::write(&labels, [1, 2]).unwrap();
    let listing = list(dir.path()).unwrap().unwrap();
    std::fs::write(&images, vec![0; 2 * IMAGE - 1]).unwrap();
    assert!(refusal(dir.path()).contains(
        "train_X.bin has 55295 bytes, which is not a whole number of images of 96 x 96 pixels"
    ));
    assert!(contents(&listing).is_err());
}
