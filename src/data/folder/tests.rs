use super::super::options::Options;
use super::super::reading::read;
use super::super::{Dataset, Images};
use super::*;
use tempfile::TempDir;

/// Writes a grey image of 32 x 32 pixels whose first pixel identifies it.
fn write(dir: &TempDir, name: &str, value: u8) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(32, 32, image::Luma([value])).save(path).unwrap();
}

fn put(dir: &TempDir, name: &str, content: &str) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn values(images: &Images) -> Vec<u8> {
    (0..images.len()).map(|i| images.image(i).unwrap()[0]).collect()
}

fn open(dir: &TempDir, options: &Options) -> Result<Dataset> {
    let listing = list(dir.path(), options.layout)?.expect("images");
    read(&listing, dir.path(), 32, options)
}

fn contents(dir: &TempDir) -> Dataset {
    open(dir, &Options::default()).unwrap()
}

fn message(dir: &TempDir) -> String {
    open(dir, &Options::default()).unwrap_err().to_string()
}

#[test]
fn classes_are_sub_folders_by_name_and_every_tenth_image_is_a_test_image() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..21 {
        write(&dir, &format!("zebra/{i:02}.png"), i);
        // Images in deeper folders count, and so do extensions in capitals.
        write(&dir, &format!("ape/more/{i:02}.PNG"), 100 + i);
    }
    for (name, content) in [
        ("readme.txt", "x"),
        ("ape/._00.png", "not an image"),
        ("empty/notes.md", "x"),
        (".git/a.png", "x"),
    ] {
        put(&dir, name, content);
    }
    for folder in ["@eaDir", "$RECYCLE.BIN", "__MACOSX"] {
        write(&dir, &format!("{folder}/x.png"), 0);
    }
    let first = contents(&dir);
    assert_eq!(first.classes, ["ape", "zebra"]);
    assert_eq!(
        (values(&first.test), first.test.labels()),
        (vec![109, 9, 119, 19], &[0, 1, 0, 1][..])
    );
    assert_eq!((first.train.len(), values(&first.train)[18], first.train.label(19)), (38, 110, 1));
    assert_eq!(
        (first.test.name(0), first.train.name(1)),
        ("ape/more/09.PNG".into(), "zebra/00.png".into())
    );
    assert_eq!(contents(&dir).sha256, first.sha256);
    // What was left out is reported.
    let mut left_out: Vec<_> =
        first.inventory.left_out.iter().map(|kind| (kind.what.as_str(), kind.count)).collect();
    left_out.sort_unstable();
    let want = [
        ("files that are not images (.md)", 1),
        ("files that are not images (.txt)", 1),
        ("folders without images", 1),
        ("hidden files and folders", 2),
        ("system folders", 3),
    ];
    assert_eq!(left_out, want);
    assert!(
        first
            .describe()
            .contains("38 training, 4 test images of 2 classes: ape 19 + 2, zebra 19 + 2; "),
        "{}",
        first.describe()
    );
    assert!(
        first.describe().contains(
            "classes are the folders, one image in 10 of each class is a test image; left out: "
        ),
        "{}",
        first.describe()
    );
    // The digest depends on the content (pixels and class names), not on the place.
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
    assert_eq!(
        (found.classes.len(), values(&found.test), found.train.labels()),
        (0, vec![9], &[0; 9][..])
    );
    let described = found.describe();
    assert!(described.contains("(9 training, 1 test image; "), "{described}");
    let reading = "; images without class folders, one image in 10 is a test image)";
    assert!(described.ends_with(reading), "{described}");
    // A folder in the working directory is named once.
    let origin = found.name.trim_start_matches("images of ").to_owned();
    let described = Dataset { origin: origin.clone(), ..found }.describe();
    assert_eq!(described.matches(&origin).count(), 1, "{described}");
    let half = open(&dir, &Options { split_ratio: Some(0.5), ..Options::default() }).unwrap();
    assert_eq!(values(&half.test), [1, 3, 5, 7, 9]);
    std::fs::remove_file(dir.path().join("4.png")).unwrap();
    let nine = open(&dir, &Options::default()).unwrap();
    assert_eq!(values(&nine.test), [9]);
    assert!(nine.describe().contains(", the last image is a test image"), "{}", nine.describe());
    write(&dir, "cat/1.png", 1);
    assert!(message(&dir).contains("0.png lies next to class folders"));
}

#[test]
fn folders_are_sets_only_if_all_are_named_as_sets_and_one_is_for_training() {
    for (train, test) in
        [("train", "test"), ("Training", "VAL"), ("train", "validation"), ("training", "testing")]
    {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in [("b/x.png", 1), ("a/y.png", 2), ("c/z.png", 3)] {
            write(&dir, &format!("{train}/{name}"), value);
        }
        write(&dir, &format!("{test}/c/x.png"), 4);
        let found = contents(&dir);
        assert_eq!((values(&found.train), found.train.labels()), (vec![2, 1, 3], &[0, 1, 2][..]));
        assert_eq!(
            (values(&found.test), found.test.labels(), found.classes.len()),
            (vec![4], &[2][..], 3)
        );
        assert!(
            found.inventory.reading.contains(&format!("{test} is the test set")),
            "{}",
            found.inventory.reading
        );
        // Read as classes on request.
        let classes = list(dir.path(), Some(Layout::Classes)).unwrap().unwrap();
        assert_eq!(classes.classes.len(), 2);
        write(&dir, &format!("{test}/d/x.png"), 5);
        assert!(
            message(&dir)
                .contains("the test set has images of the class d, but the training set has none"),
            "{}",
            message(&dir)
        );
    }
    // Vehicle classes, one of which is not the name of a set.
    let dir = tempfile::tempdir().unwrap();
    for class in ["train", "plane", "test"] {
        (0..10).for_each(|i| write(&dir, &format!("{class}/{i}.png"), i));
    }
    assert_eq!(contents(&dir).classes, ["plane", "test", "train"]);
    let listing = list(dir.path(), Some(Layout::Splits)).unwrap().unwrap();
    assert_eq!((listing.classes.len(), listing.entries.len()), (0, 20));
    assert_eq!(listing.left_out.iter().map(|kind| kind.count).sum::<usize>(), 10);
    // Without a training set the folders are classes, unless the layout says otherwise.
    let dir = tempfile::tempdir().unwrap();
    ["val", "test"]
        .iter()
        .for_each(|class| (0..10).for_each(|i| write(&dir, &format!("{class}/{i}.png"), i)));
    assert_eq!(contents(&dir).classes, ["test", "val"]);
    let error = list(dir.path(), Some(Layout::Splits)).err().unwrap().to_string();
    assert!(
        error.contains("holds the folders test, val, and none of them is named train"),
        "{error}"
    );
}

#[test]
fn a_lone_training_folder_is_divided_and_validation_images_are_left_out_if_there_is_a_test_set() {
    let dir = tempfile::tempdir().unwrap();
    (0..10).for_each(|i| write(&dir, &format!("train/{i}.png"), i));
    assert_eq!(values(&contents(&dir).test), [9]);
    // A test folder without images isn't a test set.
    std::fs::create_dir(dir.path().join("test")).unwrap();
    write(&dir, "val/y.png", 30);
    assert_eq!(values(&contents(&dir).test), [30]);
    write(&dir, "test/x.png", 20);
    let found = contents(&dir);
    assert_eq!((values(&found.test), found.train.len()), (vec![20], 10));
    assert!(
        found.describe().contains("validation images, as there is a test set: 1"),
        "{}",
        found.describe()
    );
}

#[test]
fn numeric_class_names_are_in_numeric_order() {
    let dir = tempfile::tempdir().unwrap();
    for class in [10, 2, 1, 100] {
        (0..10).for_each(|i| write(&dir, &format!("{class}/{i}.png"), i));
    }
    assert_eq!(contents(&dir).classes, ["1", "2", "10", "100"]);
}

#[test]
fn unreadable_images_are_listed_or_left_out_on_request() {
    let dir = tempfile::tempdir().unwrap();
    assert!(list(dir.path(), None).unwrap().is_none());
    put(&dir, "readme.txt", "x");
    assert!(list(dir.path(), None).unwrap().is_none());
    (0..40).for_each(|i| write(&dir, &format!("cat/{i:02}.png"), i));
    for broken in ["cat/07.png", "cat/03.png", "cat/19.png"] {
        put(&dir, broken, "broken");
    }
    put(&dir, "cat/photo.TIFF", "x");
    let message = message(&dir);
    assert!(message.contains("4 of 41 images can't be read:\n  cat/03.png "), "{message}");
    assert!(
        message.contains("\n  cat/photo.TIFF ") && message.contains("continue without them"),
        "{message}"
    );
    let skipped = open(&dir, &Options { skip_unreadable: true, ..Options::default() }).unwrap();
    // Which images go to the test set doesn't depend on which can be read.
    assert_eq!((values(&skipped.test), skipped.train.len()), (vec![9, 29, 39], 34));
    assert_eq!((skipped.inventory.unreadable(), skipped.train.name(3)), (4, "cat/04.png".into()));
    assert_eq!(values(&skipped.train)[3..8], [4, 5, 6, 8, 10]);
    assert!(skipped.describe().contains("images that can't be read: 4"), "{}", skipped.describe());
    // Of many, the first twenty are listed.
    (100..140).for_each(|i| put(&dir, &format!("cat/{i}.png"), "broken"));
    let long = open(&dir, &Options::default()).unwrap_err().to_string();
    assert!(
        long.contains("44 of 81") && long.contains("\n  and 24 more") && long.lines().count() == 23,
        "{long}"
    );
}

#[test]
fn images_of_both_sets_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in
        [("train/a/1.png", 1), ("train/a/2.png", 2), ("test/a/x.png", 2), ("test/a/y.png", 3)]
    {
        write(&dir, name, value);
    }
    let inventory = contents(&dir).inventory;
    assert_eq!(
        (inventory.in_both, &inventory.in_both_first),
        (1, &vec![["test/a/x.png".into(), "train/a/2.png".into()]])
    );
}

#[test]
fn more_classes_than_fit_in_a_byte_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..300 {
        write(&dir, &format!("train/{i}/a.png"), (i % 256) as u8);
        if i % 100 == 0 {
            write(&dir, &format!("test/{i}/b.png"), 7);
        }
    }
    let found = contents(&dir);
    assert_eq!(
        (found.classes.len(), found.train.label(299), found.test.labels()),
        (300, 299, &[0, 100, 200][..])
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_named_as_an_image_is_listed_and_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    (0..10).for_each(|i| write(&dir, &format!("{i}.png"), i));
    let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("x.png")).status().unwrap();
    assert!(pipe.success());
    assert!(message(&dir).contains("x.png is not a regular file"), "{}", message(&dir));
}
