use super::super::opening::{open_from, pack};
use super::super::options::Options;
use super::*;

/// A folder of two classes, one image of which can't be read, and the result of packing it at 24
/// pixels.
fn packed(skip: bool) -> (tempfile::TempDir, Result<Dataset>) {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..40u32 {
        let path = dir.path().join(format!("in/{}/{i:02}.png", if i % 4 == 0 { "b" } else { "ä" }));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x, y| image::Rgb([(x * 7 + i) as u8, (y * 5) as u8, (i * 3) as u8]);
        image::RgbImage::from_fn(40, 32, pixel).save(path).unwrap();
    }
    std::fs::write(dir.path().join("in/b/12.png"), "broken").unwrap();
    let options = Options { skip_unreadable: skip, ..Options::default() };
    let written = pack(&dir.path().join("in"), 24, &options, &dir.path().join("out"));
    (dir, written)
}

fn open_at(path: &Path, side: usize) -> Dataset {
    let options = Options { skip_unreadable: true, ..Options::default() };
    open_from(Some(path), None, side, &options).unwrap()
}

#[test]
fn a_file_holds_what_the_folder_does() {
    let (dir, written) = packed(true);
    let written = written.unwrap();
    let [from_folder, from_file] = ["in", "out"].map(|name| open_at(&dir.path().join(name), 24));
    assert_eq!(
        (&from_file.sha256, &from_file.classes, from_file.name),
        (&from_folder.sha256, &from_folder.classes, from_folder.name)
    );
    assert_eq!(
        (from_file.inventory, &written.sha256),
        (from_folder.inventory, &from_folder.sha256)
    );
    for (a, b) in [(&from_folder.train, &from_file.train), (&from_folder.test, &from_file.test)] {
        assert_eq!((a.labels(), a.len()), (b.labels(), b.len()));
        assert_eq!(
            (a.held_bytes(), b.held_bytes()),
            (a.len() * 3 * 24 * 24, a.len() * 4),
            "images of the file stay on disk"
        );
        for i in 0..a.len() {
            assert_eq!(
                (a.image(i).unwrap(), a.name(i)),
                (b.image(i).unwrap(), b.name(i)),
                "image {i}"
            );
        }
    }
    let some = from_file.train.select(&[5, 0]);
    assert_eq!(
        (some.image(1).unwrap(), some.name(1)),
        (from_folder.train.image(0).unwrap(), from_folder.train.name(0))
    );
    // At another side, the result equals that of resampling the images in memory.
    let (resampled, other) =
        (open_at(&dir.path().join("out"), 16), from_folder.train.at(16).unwrap());
    assert_eq!(
        (resampled.resampled_from, resampled.train.image(7).unwrap()),
        (Some(24), other.image(7).unwrap())
    );
    verify(&open_at(&dir.path().join("out"), 24)).unwrap();
    // Packing it again gives the same data set.
    pack(&dir.path().join("out"), 24, &Options::default(), &dir.path().join("again")).unwrap();
    assert_eq!(open_at(&dir.path().join("again"), 24).sha256, written.sha256);
}

#[test]
fn long_names_of_images_in_both_sets_fit_into_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let deep = ["n".repeat(200).as_str(); 9].join("/");
    for i in 0..LeftOut::NAMED as u8 {
        for set in ["train", "test"] {
            let folder = dir.path().join("in").join(set).join("a").join(&deep);
            std::fs::create_dir_all(&folder).unwrap();
            let image = image::RgbImage::from_pixel(16, 16, image::Rgb([i, 0, 0]));
            image.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let out = dir.path().join("out");
    let written = pack(&dir.path().join("in"), 16, &Options::default(), &out).unwrap();
    assert_eq!(written.inventory.in_both_first.len(), LeftOut::NAMED);
    // More than the reserve for everything else.
    assert!(json!(written.inventory).to_string().len() > 64 << 10);
}

#[test]
fn an_unreadable_image_stops_packing_and_nothing_is_written() {
    let (dir, written) = packed(false);
    let message = written.unwrap_err().to_string();
    assert!(message.contains("one image can't be read:\n  b/12.png"), "{message}");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["in"]);
}

#[test]
fn a_set_without_readable_images_is_refused_and_leaves_the_file_alone() {
    let (dir, written) = packed(true);
    written.unwrap();
    let out = dir.path().join("out");
    let before = std::fs::read(&out).unwrap();
    for class in ["train/a", "train/b", "test/a", "test/b"] {
        let path = dir.path().join("damaged").join(class).join("0.png");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match class.starts_with("train") {
            true => std::fs::write(path, "broken").unwrap(),
            false => image::RgbImage::new(32, 32).save(path).unwrap(),
        }
    }
    let options = Options { skip_unreadable: true, ..Options::default() };
    let message = pack(&dir.path().join("damaged"), 24, &options, &out).unwrap_err().to_string();
    assert!(message.contains("none of the images of the training set can be read"), "{message}");
    assert_eq!(std::fs::read(&out).unwrap(), before);
}

#[test]
fn damage_is_detected_and_never_panics() {
    let (dir, _written) = packed(true);
    let path = dir.path().join("out");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let bad = dir.path().join("bad");
    for length in
        (0..whole.len()).step_by(997).chain([header - 1, header, header + 1, whole.len() - 1])
    {
        std::fs::write(&bad, &whole[..length]).unwrap();
        // Not a pack file, or a truncated one.
        match open(&bad) {
            Ok(opened) => assert!(opened.is_none(), "{length} bytes"),
            Err(e) => {
                assert!(e.to_string().contains("is truncated or damaged; "), "{length} bytes: {e}")
            }
        }
    }
    // A changed pixel is found when everything is read, changes in other columns when the file is
    // opened.
    for at in [header + 100, header + 20 * 24 * 24] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&bad, changed).unwrap();
        let message = verify(&open_at(&bad, 24)).unwrap_err().to_string();
        assert!(message.contains("was changed after it was written"), "{message}");
    }
    let columns = header + 39 * bytes_of(24);
    for (at, value) in [
        (columns, 2),
        (columns + 1, 1),
        (columns + 2 * 39, 2),
        (columns + 3 * 39, 200),
        (whole.len() - 1, 200),
    ] {
        let mut changed = whole.clone();
        changed[at] = value;
        std::fs::write(&bad, changed).unwrap();
        let message = open(&bad).unwrap_err().to_string();
        assert!(message.contains("contradicts itself"), "byte {at}: {message}");
    }
    let text =
        String::from_utf8_lossy(&whole[..header]).replace("\"version\":\"1\"", "\"version\":\"2\"");
    std::fs::write(&bad, [text.as_bytes(), &whole[header..]].concat()).unwrap();
    assert!(open(&bad).unwrap_err().to_string().contains("another version"));
}
