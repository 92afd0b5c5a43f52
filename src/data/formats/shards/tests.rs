use super::*;
use crate::data::formats::tests::{
    bytes, changed, contents, cuts, damage, left_out, refusal, rows,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::path::PathBuf;
use tar::{Builder, EntryType, Header};

/// A tar archive of these members.
fn archive(members: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

fn listed(place: &Path) -> Listing {
    list(place).unwrap().expect("shards")
}

const TRAIN: Option<Set> = Some(Set::Train);
const TEST: Option<Set> = Some(Set::Test);

#[test]
fn reads_samples_with_their_labels() {
    let dir = tempfile::tempdir().unwrap();
    let train = archive(&[
        ("001.cls", "10"),
        ("001.jpg", "one"),
        ("002.seg.png", "mask"),
        ("002.png", "two"),
        ("002.cls", "9\n"),
    ]);
    let more = archive(&[
        ("./a/001.JPEG", "three"),
        ("a/001.cls", "010"),
        ("a/002.webp", "none"),
        // An image of a format that isn't read is an image nevertheless.
        ("a/004.JXL", "none"),
        ("a/003.npy", "x"),
    ]);
    write(dir.path(), "train-000.tar", &train);
    write(dir.path(), "train-001.tar", &more);
    write(dir.path(), "test-000.tar", &archive(&[("001.png", "four"), ("001.cls", "9")]));
    write(dir.path(), "val-000.tar", &archive(&[("001.png", "five"), ("001.cls", "9")]));
    write(dir.path(), "README.md", b"");
    let listing = listed(dir.path());
    assert_eq!(listing.classes, ["9", "10"]);
    let expected = [
        ("test-000.tar/001.png", 0, TEST),
        ("train-000.tar/001.jpg", 1, TRAIN),
        ("train-000.tar/002.png", 0, TRAIN),
        ("train-001.tar/a/001.JPEG", 1, TRAIN),
    ];
    assert_eq!(rows(&listing), expected);
    let images = contents(&listing).unwrap();
    assert_eq!(
        images.iter().map(bytes).collect::<Vec<_>>(),
        [b"four".as_slice(), b"one", b"two", b"three"]
    );
    let left = [
        ("files and folders that are not .tar shards", 1),
        ("members that are not images", 1),
        ("further images of a sample", 1),
        ("images without a label (.cls)", 2),
        ("validation images, as there are test images", 1),
    ];
    assert_eq!(left_out(&listing), left);
    assert!(listing.reading.contains("WebDataset, with the labels in .cls"), "{}", listing.reading);
    // The class names next to the shards.
    write(dir.path(), "classes.txt", "0\n1\n2\n3\n4\n5\n6\n7\n8\nnine\nten\neleven\n".as_bytes());
    let listing = listed(dir.path());
    assert_eq!(
        (listing.classes.len(), &listing.classes[10][..], listing.entries[1].label),
        (12, "ten", 10)
    );
    assert_eq!(left_out(&listing)[0].1, 2);
    write(dir.path(), "classes.txt", b"a\nb\n");
    assert!(
        refusal(dir.path())
            .contains("classes.txt names 2 classes, counted from 0, but an image has the label 9")
    );
}

#[test]
fn shards_may_lie_in_folders_of_sets_or_be_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let one = archive(&[
        ("1.png", "one"),
        ("1.json", r#"{"label": 3, "width": 5}"#),
        ("2.png", "two"),
        ("2.json", r#"{"cls": "x"}"#),
    ]);
    write(dir.path(), "data/train/0.tar", &one);
    write(dir.path(), "data/test/0.tar", &one);
    let listing = listed(dir.path());
    assert_eq!(
        (rows(&listing)[0], rows(&listing)[3]),
        (("data/test/0.tar/1.png", 0, TEST), ("data/train/0.tar/2.png", 1, TRAIN))
    );
    assert_eq!(listing.classes, ["3", "x"]);
    let single = listed(&write(dir.path(), "train-0.tar", &one));
    assert_eq!(rows(&single), [("1.png", 0, None), ("2.png", 1, None)]);
    // Samples in set folders, in one gzipped file.
    let sets = archive(&[
        ("train/1.png", "one"),
        ("train/1.cls", "5"),
        ("val/1.png", "two"),
        ("val/1.cls", "6"),
    ]);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut packed, &sets).unwrap();
    let listing = listed(&write(dir.path(), "sets.tgz", &packed.finish().unwrap()));
    assert_eq!(rows(&listing), [("train/1.png", 0, TRAIN), ("val/1.png", 1, TEST)]);
    assert_eq!(bytes(&contents(&listing).unwrap()[1]), b"two");
}

#[test]
fn texts_that_repeat_are_classes() {
    let dir = tempfile::tempdir().unwrap();
    let texts = |texts: [&str; 4]| {
        let names: Vec<(String, String)> =
            (0..4).map(|i| (format!("{i}.png"), format!("{i}.txt"))).collect();
        let members: Vec<(&str, &str)> = names
            .iter()
            .zip(texts)
            .flat_map(|((image, text), label)| [(image.as_str(), "image"), (text.as_str(), label)])
            .collect();
        listed(&write(dir.path(), "x.tar", &archive(&members)))
    };
    let classes = texts(["dog", "cat", "dog", "cat"]);
    assert_eq!(
        (&classes.classes[..], classes.entries[0].label),
        (&["cat".to_owned(), "dog".into()][..], 1)
    );
    assert!(
        classes.reading.contains("the labels in .txt members; they repeat"),
        "{}",
        classes.reading
    );
    let descriptions = texts(["a dog", "a cat", "the dog", "my cat"]);
    assert_eq!(
        (descriptions.classes.len(), left_out(&descriptions)),
        (0, vec![("members that are not images", 4)])
    );
}

#[test]
fn an_archive_of_folders_is_read_like_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let members = [
        ("photos/dog/x.1.png", "one"),
        ("photos/10/2.jpg", "two"),
        ("photos/9/2.tiff", "three"),
        ("photos/dog/._x.png", "hidden"),
        ("photos/__MACOSX/x.png", "hidden"),
        ("photos/0.png", "beside"),
        ("photos/notes.txt", "note"),
    ];
    let listing = listed(&write(dir.path(), "x.tar", &archive(&members)));
    assert_eq!(listing.classes, ["9", "10", "dog"]);
    assert_eq!(
        rows(&listing),
        [
            ("photos/dog/x.1.png", 2, None),
            ("photos/10/2.jpg", 1, None),
            ("photos/9/2.tiff", 0, None)
        ]
    );
    let left = [
        ("members that are hidden or belong to the system", 2),
        ("members that are not images", 1),
        ("images next to the class folders", 1),
    ];
    assert_eq!(left_out(&listing), left);
    let sets =
        [("train/cat/1.png", "one"), ("train/dog/1.png", "two"), ("test/dog/1.png", "three")];
    let listing = listed(&write(dir.path(), "x.tar", &archive(&sets)));
    assert_eq!(
        rows(&listing),
        [("train/cat/1.png", 0, TRAIN), ("train/dog/1.png", 1, TRAIN), ("test/dog/1.png", 1, TEST)]
    );
    // The same member twice.
    let listing =
        listed(&write(dir.path(), "x.tar", &archive(&[("1.png", "one"), ("1.png", "two")])));
    assert_eq!(rows(&listing), [("1.png", 0, None), ("1 (2).png", 0, None)]);
    assert_eq!(bytes(&contents(&listing).unwrap()[1]), b"two");
}

#[test]
fn long_names_and_odd_members() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/{}.png", "d".repeat(90), "n".repeat(150));
    let mut tar = Builder::new(Vec::new());
    let header = |size: usize, kind: EntryType| {
        let mut header = Header::new_ustar();
        header.set_size(size as u64);
        header.set_entry_type(kind);
        header
    };
    let mut add = |kind: EntryType, name: &[u8], content: &[u8]| {
        let mut header = header(content.len(), kind);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    };
    // A long name as GNU writes it, one as POSIX does, names that lead outside, a link.
    add(EntryType::GNULongName, b"././@LongLink", format!("{long}\0").as_bytes());
    add(EntryType::Regular, b"short.png", b"one");
    let record = format!(" path=p/{long}\n");
    let length = record.len() + 3;
    add(EntryType::XHeader, b"PaxHeaders/x", format!("{length}{record}").as_bytes());
    add(EntryType::Regular, b"short.png", b"two");
    add(EntryType::Regular, b"../out.png", b"three");
    add(EntryType::Regular, b"/etc/out.png", b"three");
    add(EntryType::Symlink, b"link.png", b"");
    add(EntryType::Regular, b"last.png", b"four");
    let path = write(dir.path(), "x.tar", &tar.into_inner().unwrap());
    let listing = listed(&path);
    assert_eq!(
        left_out(&listing),
        [
            ("members whose names lead out of the archive", 2),
            ("members that are not plain files", 1),
            ("images next to the class folders", 1)
        ]
    );
    assert_eq!(rows(&listing), [(long.as_str(), 0, None), (&format!("p/{long}")[..], 1, None)]);
    assert_eq!(contents(&listing).unwrap().iter().map(bytes).collect::<Vec<_>>(), [b"one", b"two"]);
}

#[test]
fn says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    assert!(list(dir.path()).unwrap().is_none());
    let refused =
        |members: &[(&str, &str)]| refusal(&write(dir.path(), "x.tar", &archive(members)));
    assert!(refused(&[("a.txt", "no image")]).contains("x.tar holds no images"));
    assert!(refused(&[("a.png", ""), ("a.cls", "two\nlines")]).contains("a.cls in "));
    assert!(refused(&[("a.png", ""), ("a.json", "{")]).contains("is not JSON"));
    let whole = archive(&[("a.png", "one"), ("a.cls", "1"), ("b.png", "two"), ("b.cls", "2")]);
    // Truncated between two members, and with a size beyond the end.
    for cut in [1024, 2048] {
        let message = refusal(&write(dir.path(), "x.tar", &whole[..cut]));
        assert!(
            message.contains("x.tar cannot be read as a tar archive (its end is missing)"),
            "{message}"
        );
    }
    let mut header = Header::new_gnu();
    header.set_size(1 << 40);
    header.set_path("a.png").unwrap();
    header.set_cksum();
    let message =
        refusal(&write(dir.path(), "x.tar", &[&header.as_bytes()[..], &[0; 1024]].concat()));
    assert!(message.contains("a member extends past its end"), "{message}");
    // Another archive instead of the one that was listed.
    let path = write(dir.path(), "x.tar", &whole);
    let listing = listed(&path);
    std::fs::write(&path, archive(&[("a.png", "one")])).unwrap();
    assert!(
        contents(&listing).err().unwrap().to_string().contains("has changed since it was listed")
    );
}

#[test]
fn of_several_labels_with_one_extension_the_first_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let members = [
        ("a.png", "one"),
        ("a.cls", "7"),
        ("a.cls", "8"),
        ("a.txt", "x"),
        ("b.png", "two"),
        ("b.cls", "8"),
    ];
    let path = write(dir.path(), "x.tar", &archive(&members));
    assert_eq!(
        (rows(&listed(&path)), listed(&path).classes),
        (vec![("a.png", 0, None), ("b.png", 1, None)], vec!["7".into(), "8".into()])
    );
    let found = scan(&path, &mut Vec::new()).unwrap();
    assert_eq!(found.images[0].labels, [(Source::Cls, "7".into()), (Source::Txt, "x".into())]);
}

#[test]
fn names_that_no_system_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (length, taken) in [(4096, true), (4097, false)] {
        let name = "n".repeat(length - 4) + ".png";
        let path = write(dir.path(), "x.tar", &archive(&[(&name, "one")]));
        let found = list(&path)
            .map(|found| found.unwrap().entries[0].name.len())
            .map_err(|e| e.to_string());
        match taken {
            true => assert_eq!(found, Ok(length)),
            false => assert!(
                found
                    .unwrap_err()
                    .contains("x.tar cannot be read as a tar archive (a name is too long)")
            ),
        }
    }
}

#[test]
fn folders_of_images_are_not_taken_for_shards() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.tar", &archive(&[("a.png", "one")]));
    assert!(list(dir.path()).unwrap().is_some());
    write(dir.path(), "cats/1.jpg", b"");
    assert!(list(dir.path()).unwrap().is_none());
}

#[test]
fn survives_damage() {
    let dir = tempfile::tempdir().unwrap();
    let whole = archive(&[
        ("a/1.png", "one"),
        ("a/1.cls", "1"),
        ("a/2.png", "two"),
        ("a/2.json", r#"{"label": 2}"#),
        (&"x".repeat(120), ""),
    ]);
    let path = dir.path().join("x.tar");
    let (refused, accepted) = damage(&path, &path, cuts(&whole, 13));
    assert!(refused > 300 && accepted <= 512 / 13 + 1, "{refused} {accepted}");
    let (refused, accepted) = damage(&path, &path, changed(&whole, 1500));
    assert!(refused > 100 && accepted > 100, "{refused} {accepted}");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut packed, &whole).unwrap();
    let packed = packed.finish().unwrap();
    let path = dir.path().join("x.tar.gz");
    let (_, accepted) = damage(&path, &path, cuts(&packed, 1));
    assert_eq!(accepted, 0);
    damage(&path, &path, changed(&packed, 500));
}
