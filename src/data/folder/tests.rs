use super::*;
use tempfile::TempDir;

/// A grey image of 32 x 32 pixels whose first pixel tells it from the others.
fn write(dir: &TempDir, name: &str, value: u8) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(32, 32, image::Luma([value])).save(path).unwrap();
}

fn values(images: &Images) -> Vec<u8> {
    (0..images.len()).map(|i| images.image(i)[0]).collect()
}

fn contents(dir: &TempDir) -> Contents {
    read(dir.path(), 32).unwrap().expect("images")
}

fn message(dir: &TempDir) -> String {
    read(dir.path(), 32).unwrap_err().to_string()
}

#[test]
fn classes_are_sub_folders_by_name_and_every_tenth_image_is_for_the_test() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..21 {
        write(&dir, &format!("zebra/{i:02}.png"), i);
        // Deeper folders count, and endings in capitals.
        write(&dir, &format!("ape/more/{i:02}.PNG"), 100 + i);
    }
    for (name, content) in [("readme.txt", "x"), ("ape/._00.png", "not an image"), ("empty/notes.md", "x"), (".git/a.png", "x")] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let first = contents(&dir);
    assert_eq!(first.classes, ["ape", "zebra"]);
    assert_eq!((values(&first.test), first.test.labels()), (vec![109, 9, 119, 19], &[0, 1, 0, 1][..]));
    assert_eq!((first.train.len(), values(&first.train)[18], first.train.label(19)), (38, 110, 1));
    assert_eq!(contents(&dir).sha256, first.sha256);
    // The digest is one of the content: of pixels and of names, not of the place.
    write(&dir, "zebra/20.png", 77);
    let altered = contents(&dir).sha256;
    std::fs::rename(dir.path().join("zebra"), dir.path().join("zebu")).unwrap();
    let renamed = contents(&dir).sha256;
    assert!(altered != first.sha256 && renamed != altered);
}

#[test]
fn images_without_folders_have_no_classes() {
    let dir = tempfile::tempdir().unwrap();
    (0..10).for_each(|i| write(&dir, &format!("{i}.png"), i));
    let found = contents(&dir);
    assert_eq!((found.classes.len(), values(&found.test), found.train.labels()), (0, vec![9], &[0; 9][..]));
    std::fs::remove_file(dir.path().join("4.png")).unwrap();
    assert!(message(&dir).contains("none is left for the test set; give it at least 10 of a class"));
    write(&dir, "cat/1.png", 1);
    assert!(message(&dir).contains("0.png lies beside class folders"));
}

#[test]
fn train_and_test_folders_are_the_two_sets() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in [("train/b/x.png", 1), ("train/a/y.png", 2), ("train/c/z.png", 3), ("test/c/x.png", 4)] {
        write(&dir, name, value);
    }
    let found = contents(&dir);
    assert_eq!((values(&found.train), found.train.labels()), (vec![2, 1, 3], &[0, 1, 2][..]));
    assert_eq!((values(&found.test), found.test.labels(), found.classes.len()), (vec![4], &[2][..], 3));
    write(&dir, "test/d/x.png", 5);
    assert!(message(&dir).contains("test/d holds images of a class that"), "{}", message(&dir));
    std::fs::remove_dir_all(dir.path().join("test")).unwrap();
    assert!(message(&dir).contains("holds a folder train but no folder test; add it, or name"), "{}", message(&dir));
    for (name, value) in [("test/x.png", 4), ("flat/train/1.png", 1), ("flat/test/2.png", 2)] {
        write(&dir, name, value);
    }
    assert!(message(&dir).contains("test holds images of a class that"), "{}", message(&dir));
    let flat = read(&dir.path().join("flat"), 32).unwrap().unwrap();
    assert_eq!((values(&flat.train), values(&flat.test), flat.classes.len()), (vec![1], vec![2], 0));
    std::fs::remove_file(dir.path().join("flat/train/1.png")).unwrap();
    assert!(read(&dir.path().join("flat"), 32).is_err());
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read(dir.path(), 32).unwrap().is_none());
    std::fs::write(dir.path().join("readme.txt"), "x").unwrap();
    assert!(read(dir.path(), 32).unwrap().is_none());
    (0..20).for_each(|i| write(&dir, &format!("cat/{i:02}.png"), i));
    for broken in ["cat/07.png", "cat/03.png"] {
        std::fs::write(dir.path().join(broken), "broken").unwrap();
    }
    assert!(message(&dir).contains("cat/03.png is damaged or not an image"), "{}", message(&dir));
    std::fs::write(dir.path().join("cat/21.TIFF"), "x").unwrap();
    assert!(message(&dir).contains("21.TIFF cannot be read; convert it to PNG, JPEG"), "{}", message(&dir));
}

#[test]
fn more_than_256_classes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    (0..257).for_each(|i| write(&dir, &format!("{i:03}/a.png"), 0));
    assert!(message(&dir).contains("holds 257 class folders; at most 256"), "{}", message(&dir));
}
