use super::*;
use crate::data::formats::tests::{contents, left_out, refusal, rows};
use crate::data::listing::Content;

fn write(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Two classes with the same first name and one without a name.
fn sample(folder: &Path) {
    write(folder.join("wnids.txt"), "n03\nn01\nn02\n");
    write(folder.join("words.txt"), "n01\tcrane, wading bird\nn03\tcrane\nn09\tother, names\n");
    for image in [
        "n01/images/n01_0.JPEG",
        "n01/images/n01_10.JPEG",
        "n03/images/n03_5.JPEG",
        "n02/images/n02_0.JPEG",
    ] {
        write(folder.join("train").join(image), image);
    }
    write(folder.join("train/n01/n01_boxes.txt"), "");
    write(
        folder.join("val/val_annotations.txt"),
        "val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn03\t0\t0\t1\t1\n",
    );
    for image in [
        "val/images/val_0.JPEG",
        "val/images/val_1.JPEG",
        "val/images/val_2.JPEG",
        "test/images/test_0.JPEG",
    ] {
        write(folder.join(image), image);
    }
}

#[test]
fn reads_it_as_it_is_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    sample(&folder);
    for place in [dir.path(), &folder] {
        let listing = list(place).unwrap().expect("Tiny-ImageNet");
        assert_eq!(listing.classes, ["crane (n03)", "crane (n01)", "n02"]);
        let (train, test) = (Some(Set::Train), Some(Set::Test));
        let expected = [
            ("train/n01/images/n01_0.JPEG", 1, train),
            ("train/n01/images/n01_10.JPEG", 1, train),
            ("train/n02/images/n02_0.JPEG", 2, train),
            ("train/n03/images/n03_5.JPEG", 0, train),
            ("val/images/val_0.JPEG", 2, test),
            ("val/images/val_1.JPEG", 0, test),
        ];
        assert_eq!(rows(&listing), expected);
        assert_eq!(
            left_out(&listing),
            [("validation images without a label", 1), ("test images, which have no labels", 1)]
        );
        assert!(listing.by_turns);
        let files = contents(&listing).unwrap();
        assert!(
            matches!(&files[3], Content::File(path) if path.ends_with("n03_5.JPEG") && path.is_file())
        );
    }
}

#[test]
fn validation_images_may_be_sorted_into_folders() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    std::fs::remove_file(dir.path().join("val/val_annotations.txt")).unwrap();
    write(dir.path().join("val/n01/val_7.JPEG"), "");
    let listing = list(dir.path()).unwrap().unwrap();
    assert_eq!(rows(&listing).last(), Some(&("val/n01/val_7.JPEG", 1, Some(Set::Test))));
    assert_eq!(
        left_out(&listing)[0],
        ("files and folders that wnids.txt doesn't name as classes", 1)
    );
}

#[test]
fn says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    assert!(list(dir.path()).unwrap().is_none());
    sample(dir.path());
    let table = dir.path().join("val/val_annotations.txt");
    let with = |text: &str| {
        write(table.clone(), text);
        refusal(dir.path())
    };
    assert!(
        with("val_0.JPEG\tn02\t0\nval_9.JPEG\tn02\t0\n")
            .contains("names 1 image missing from val/images: val_9.JPEG")
    );
    assert!(with("val_0.JPEG\tn77\n").contains("names the class n77, which wnids.txt doesn't"));
    assert!(with("val_0.JPEG\tn02\nval_0.JPEG\tn01\n").contains("names val_0.JPEG twice"));
    assert!(with("val_0.JPEG n02\n").contains("has no image and class in line 1"));
    write(dir.path().join("wnids.txt"), "n01\nn01\n");
    assert!(
        refusal(dir.path())
            .contains("wnids.txt names fewer than two classes, or one of them twice")
    );
}
