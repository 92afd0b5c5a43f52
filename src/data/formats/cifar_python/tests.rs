use super::*;
use crate::data::cifar::CLASSES;
use crate::data::formats::tests::{
    bytes, changed, contents, cuts, damage, fixture, left_out, planes, refusal, rows, unpack,
};

fn listed(place: &Path) -> Listing {
    list(place).unwrap().expect("CIFAR")
}

/// Checks the ten training images and three test images of the fixture, in order.
fn check_ten(listing: &Listing) {
    assert_eq!(listing.classes, CLASSES);
    let entries = rows(listing);
    assert_eq!(
        (entries.len(), entries[0], entries[3]),
        (
            13,
            ("image_s_000000.png", 1, Some(Set::Train)),
            ("image_s_000003.png", 7, Some(Set::Train))
        )
    );
    assert_eq!(entries[10], ("image_s_000010.png", 3, Some(Set::Test)));
    // The test set repeats a name of the training set.
    assert_eq!(entries[11], ("image_s_000001 (2).png", 0, Some(Set::Test)));
    let images = contents(listing).unwrap();
    for (i, image) in images.iter().enumerate() {
        assert!(
            matches!(image, Content::Planes { side: 32, .. }) && bytes(image) == planes(i, 32),
            "image {i}"
        );
    }
    assert!(!listing.by_turns && listing.left_out.is_empty());
}

#[test]
fn reads_cifar_10_from_folder_parent_and_archive() {
    let dir = tempfile::tempdir().unwrap();
    unpack("cifar-10-python.tar.gz", dir.path());
    let folder = dir.path().join("cifar-10-batches-py");
    [dir.path(), &folder, &fixture("cifar-10-python.tar.gz")]
        .into_iter()
        .for_each(|place| check_ten(&listed(place)));
    // The folder under another name.
    let renamed = dir.path().join("mine");
    std::fs::rename(folder, &renamed).unwrap();
    check_ten(&listed(&renamed));
    // Class names of its own.
    let meta = std::fs::read(renamed.join("batches.meta")).unwrap();
    let at = meta.windows(4).position(|word| word == b"ship").unwrap();
    std::fs::write(renamed.join("batches.meta"), [&meta[..at], b"boat", &meta[at + 4..]].concat())
        .unwrap();
    assert_eq!(listed(&renamed).classes[8], "boat");
    std::fs::remove_file(renamed.join("batches.meta")).unwrap();
    check_ten(&listed(&renamed));
}

#[test]
fn reads_cifar_100_as_python_2_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    unpack("cifar-100-python.tar.gz", dir.path());
    for place in [
        dir.path().to_path_buf(),
        dir.path().join("cifar-100-python"),
        fixture("cifar-100-python.tar.gz"),
    ] {
        let listing = listed(&place);
        assert_eq!(
            (listing.name.as_str(), listing.classes.len(), listing.classes[7].as_str()),
            ("CIFAR-100", 100, "class_07")
        );
        let expected = [
            ("image_s_000000.png", 99, Set::Train),
            ("image_s_000001.png", 7, Set::Train),
            ("image_s_000002.png", 42, Set::Test),
        ];
        assert_eq!(rows(&listing), expected.map(|(name, label, set)| (name, label, Some(set))));
        // The archive stores the test images first.
        let images = contents(&listing).unwrap();
        assert!(images.iter().enumerate().all(|(i, image)| bytes(image) == planes(i, 32)));
    }
    std::fs::create_dir(dir.path().join("cifar-10-batches-bin")).unwrap();
    assert_eq!(left_out(&listed(dir.path())), [("other data sets in the same folder", 1)]);
}

#[test]
fn a_training_folder_of_images_is_not_taken_for_cifar_100() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("train")).unwrap();
    std::fs::write(dir.path().join("test"), "no pickle").unwrap();
    assert!(list(dir.path()).unwrap().is_none());
}

#[test]
fn says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    unpack("cifar-10-python.tar.gz", dir.path());
    let folder = dir.path().join("cifar-10-batches-py");
    let (batch, other) = (folder.join("data_batch_2"), folder.join("data_batch_5"));
    let whole = std::fs::read(&batch).unwrap();
    std::fs::remove_file(&batch).unwrap();
    let one = refusal(dir.path());
    assert!(
        one.contains(
            "is the Python version of CIFAR-10, but data_batch_2 is missing; get \
             cifar-10-python.tar.gz again"
        ),
        "{one}"
    );
    std::fs::write(&batch, &whole[..whole.len() - 1]).unwrap();
    assert!(refusal(dir.path()).contains("data_batch_2 ends in the middle of its pickle"));
    std::fs::write(&batch, b"\x80\x02cos\nsystem\n.").unwrap();
    assert!(refusal(dir.path()).contains("data_batch_2 asks for os.system"));
    std::fs::write(&batch, b"\x80\x02}.").unwrap();
    assert!(refusal(dir.path()).contains("data_batch_2 has no labels"));
    std::fs::write(&batch, b"\x80\x02].").unwrap();
    assert!(refusal(dir.path()).contains("data_batch_2 holds no dictionary"));
    // The label 1 of the second training file becomes 11.
    let at = whole.windows(4).position(|part| part == b"K\x02K\x07").expect("its labels");
    std::fs::write(&batch, [&whole[..at], b"K\x0bK\x07", &whole[at + 4..]].concat()).unwrap();
    assert!(
        refusal(dir.path())
            .contains("data_batch_2 has the label 11 at image 0, but there are 10 classes")
    );
    std::fs::write(&batch, &whole).unwrap();
    // A file that changes between listing and reading.
    let listing = listed(dir.path());
    std::fs::remove_file(&other).unwrap();
    assert!(contents(&listing).err().unwrap().to_string().contains("has lost files"));
}

#[test]
fn survives_damage() {
    let dir = tempfile::tempdir().unwrap();
    unpack("cifar-100-python.tar.gz", dir.path());
    let path = dir.path().join("cifar-100-python/test");
    let whole = std::fs::read(&path).unwrap();
    let (refused, accepted) = damage(dir.path(), &path, cuts(&whole, 7));
    assert_eq!((accepted, refused > 400), (0, true));
    // Bytes that aren't pixels and that make a difference.
    let (refused, accepted) = damage(dir.path(), &path, changed(&whole[..], 300));
    assert!(refused > 0 && accepted > 100, "{refused} {accepted}");
    let archive = dir.path().join("a.tar.gz");
    let whole = std::fs::read(fixture("cifar-100-python.tar.gz")).unwrap();
    let (refused, accepted) = damage(&archive, &archive, cuts(&whole, 61));
    assert!(refused > 100 && accepted == 0, "{refused} {accepted}");
    damage(&archive, &archive, changed(&whole, 60));
}

/// Writes an archive of the binary version: records of labels and pixels.
fn binary(path: &Path, folder: &str, files: &[(&str, usize)], labels: usize) {
    let out = flate2::write::GzEncoder::new(
        std::fs::File::create(path).unwrap(),
        flate2::Compression::fast(),
    );
    let mut tar = tar::Builder::new(out);
    let mut i = 0;
    for (name, count) in files {
        let mut content = Vec::new();
        for _ in 0..*count {
            content.extend([3, (i % 10) as u8].iter().skip(2 - labels));
            content.extend(planes(i, 32));
            i += 1;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, format!("{folder}/{name}"), &content[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn reads_archives_of_the_binary_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar.gz");
    let mut files: Vec<(String, usize)> =
        (1..6).map(|i| (format!("data_batch_{i}.bin"), 2)).collect();
    files.push(("test_batch.bin".into(), 3));
    let names: Vec<(&str, usize)> = files.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    binary(&path, "cifar-10-batches-bin", &names, 1);
    let listing = listed(&path);
    assert_eq!(
        (listing.entries.len(), rows(&listing)[12]),
        (13, ("test_batch.bin:2", 2, Some(Set::Test)))
    );
    assert!(
        contents(&listing)
            .unwrap()
            .iter()
            .enumerate()
            .all(|(i, image)| bytes(image) == planes(i, 32))
    );
    binary(&path, "cifar-10-batches-bin", &names[..5], 1);
    assert!(refusal(&path).contains("test_batch.bin is missing"));

    binary(&path, "cifar-100-binary", &[("train.bin", 4), ("test.bin", 1)], 2);
    let listing = listed(&path);
    assert_eq!(
        (rows(&listing)[3], rows(&listing)[4]),
        (("train.bin:3", 3, Some(Set::Train)), ("test.bin:0", 4, Some(Set::Test)))
    );
    assert!(
        contents(&listing)
            .unwrap()
            .iter()
            .enumerate()
            .all(|(i, image)| bytes(image) == planes(i, 32))
    );
}
