use super::*;

#[test]
fn a_named_place_without_data_is_an_error_with_the_remedy() {
    let empty = tempfile::tempdir().unwrap();
    let message =
        open_from(Some(empty.path()), None, 32, &Options::default()).unwrap_err().to_string();
    assert!(message.contains(&cifar::remedy(empty.path())), "{message}");
    let message = verify(Some(empty.path()), &Options::default()).unwrap_err().to_string();
    assert!(
        message.contains("holds nothing; name another place")
            && message.contains(&cifar::remedy(empty.path())),
        "{message}"
    );
    let gone = empty.path().join("gone");
    let opened = |place: &Path| open_from(Some(place), None, 32, &Options::default()).unwrap_err();
    let verified = verify(Some(&gone), &Options::default()).unwrap_err();
    let shown = show(Some(&gone), 32, &Options::default()).unwrap_err();
    for message in [opened(&gone), verified, shown].map(|e| e.to_string()) {
        assert!(message.contains("does not exist; check the path"), "{message}");
        assert!(message.contains(&cifar::remedy(&gone)), "{message}");
    }
    // Data can't be fetched to a file, and isn't meant to go to a folder with other things.
    let [text, image] = ["a.txt", "b.png"].map(|name| empty.path().join(name));
    std::fs::write(&text, "x").unwrap();
    let of_folder = opened(empty.path());
    assert!(!holds_images(empty.path()));
    image::GrayImage::new(8, 8).save(&image).unwrap();
    assert!(holds_images(empty.path()));
    for (error, says) in [
        (of_folder, "holds no images, but files that are not images (.txt): 1; "),
        (opened(&text), "a.txt is a file in none of the formats"),
        (opened(&image), "b.png is a single image"),
    ] {
        let message = error.to_string();
        assert!(message.contains(says), "{message}");
        assert!(message.ends_with(&Hint::Kinds.to_string()), "{message}");
    }
}

#[test]
fn bundled_data_is_shown_verified_and_packed() {
    let named = Some(Path::new(BUNDLED));
    let survey = show(named, 32, &Options::default()).unwrap();
    assert_eq!((survey.name.as_str(), survey.images), (SUBSET, [5000, 1000]));
    let (verified, _) = verify(named, &Options::default()).unwrap();
    assert!(
        verified[0].starts_with(
            "CIFAR-10 subset in the program: 5,000 training and 1,000 test images of 10 classes, "
        ),
        "{}",
        verified[0]
    );
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("p.safetensors");
    let packed = pack(Path::new(BUNDLED), 16, &Options::default(), &out).unwrap();
    assert_eq!((packed.train.len(), packed.test.len(), packed.train.side()), (5000, 1000, 16));
}

#[test]
fn options_without_an_effect_are_not_recorded() {
    let place = tempfile::tempdir().unwrap();
    for name in ["train/a/0.png", "train/a/1.png", "train/b/2.png", "test/a/3.png"] {
        let file = place.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::GrayImage::new(8, 8).save(file).unwrap();
    }
    let asked = Options {
        layout: Some(super::super::Layout::Splits),
        split_ratio: Some(0.5),
        skip_unreadable: true,
    };
    let used =
        |named: &Path, asked: &Options| open_from(Some(named), None, 32, asked).unwrap().options;
    // The folder has its own sets.
    assert_eq!(used(place.path(), &asked), Options { split_ratio: None, ..asked });
    let divided = Options { layout: None, ..asked };
    assert_eq!(used(&place.path().join("train"), &divided), divided);
    assert_eq!(used(Path::new(BUNDLED), &asked), Options::default());
}

#[test]
fn a_set_that_nothing_can_be_trained_on_is_shown_with_a_warning() {
    let place = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        std::fs::create_dir(place.path().join(class)).unwrap();
        image::GrayImage::new(8, 8).save(place.path().join(class).join("0.png")).unwrap();
    }
    let survey = show(Some(place.path()), 32, &Options::default()).unwrap();
    assert_eq!((survey.images, survey.classes.len()), ([2, 0], 2));
    let warnings = &survey.inventory.warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("none is left for the test set"),
        "{warnings:?}"
    );
    let message = verify(Some(place.path()), &Options::default()).unwrap_err().to_string();
    assert!(message.contains("none is left for the test set"), "{message}");
}

#[test]
fn a_named_place_is_recognised_by_what_it_holds() {
    let place = tempfile::tempdir().unwrap();
    let open = |place: &Path| open_from(Some(place), None, 32, &Options::default());
    for i in 0..20 {
        let grey = image::GrayImage::from_pixel(40, 40, image::Luma([i]));
        let folder = place.path().join(if i < 10 { "a" } else { "b" });
        std::fs::create_dir_all(&folder).unwrap();
        grey.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    let images = open(place.path()).unwrap();
    assert_eq!(
        (images.classes.as_slice(), images.train.len(), images.test.labels()),
        (&["a".into(), "b".into()][..], 18, &[0, 1][..])
    );
    assert!(images.name.starts_with("images of ") && images.require_classes("a probe").is_ok());
    assert!(
        verify(Some(place.path()), &Options::default()).unwrap().0[0]
            .contains("18 training and 2 test images of 2 classes, every image can be read")
    );
    // A relative path is stored as an absolute one, so it is found again from any folder.
    assert_eq!(reopen(&images.location(), 32, &Options::default()).unwrap().sha256, images.sha256);
    let relative = Dataset { origin: BUNDLED.into(), ..images.clone() }.location();
    assert!(Path::new(&relative).is_absolute() && relative.ends_with(BUNDLED), "{relative}");
    assert_eq!(
        reopen(&bundled().unwrap().location(), 32, &Options::default()).unwrap().name,
        SUBSET
    );
    let one = open(&place.path().join("a")).unwrap();
    assert_eq!((one.classes.len(), one.test.image(0).unwrap()[0]), (0, 9));
    assert!(
        one.require_classes("a probe")
            .unwrap_err()
            .to_string()
            .contains("one sub-folder per class")
    );

    // CIFAR takes precedence over images, and CIFAR-10 over CIFAR-100.
    cifar100::tests::write_sample(&place.path().join(cifar100::FOLDER));
    let message = open(place.path()).unwrap_err().to_string();
    assert!(message.contains("CIFAR-100") && message.contains("train.bin has"), "{message}");
    assert!(
        verify(Some(place.path()), &Options::default())
            .unwrap_err()
            .to_string()
            .contains("CIFAR-100")
    );
    let sample = full_100(&place.path().join(cifar100::FOLDER), cifar100::tests::SAMPLE).unwrap();
    assert_eq!(
        (sample.name.as_str(), sample.classes.len(), sample.classes[7].as_str()),
        ("CIFAR-100", 100, "beetle")
    );
    cifar::tests::write_sample(&place.path().join(cifar::FOLDER), 2);
    assert!(open(place.path()).unwrap_err().to_string().contains("is not the official CIFAR-10:"));
}

#[test]
fn an_empty_cache_gives_the_bundled_subset_and_damage_in_it_an_error() {
    let cache = tempfile::tempdir().unwrap();
    let dataset = open_from(None, Some(cache.path()), 32, &Options::default()).unwrap();
    assert_eq!(dataset.describe(), "CIFAR-10 subset (5,000 training, 1,000 test images; bundled)");
    let folder = cache.path().join("soda").join(cifar::FOLDER);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("data_batch_1.bin"), "short").unwrap();
    let message =
        open_from(None, Some(cache.path()), 32, &Options::default()).unwrap_err().to_string();
    assert!(message.contains("data_batch_1.bin has 5 bytes instead of 30730000"), "{message}");
}

#[test]
fn root_is_the_parent_of_the_folder_of_the_files() {
    let path = Path::new;
    assert_eq!(root_from(Some(path("d")), Some(path("c"))).unwrap(), path("d"));
    assert_eq!(root_from(Some(path("d/cifar-10-batches-bin")), None).unwrap(), path("d"));
    assert_eq!(root_from(Some(path("cifar-10-batches-bin")), None).unwrap(), path("."));
    assert_eq!(root_from(Some(path("d/cifar-100-binary")), None).unwrap(), path("d"));
    assert_eq!(root_from(None, Some(path("c"))).unwrap(), path("c/soda"));
    assert_eq!(root_from(None, None).unwrap_err().exit_code(), 2);
}

#[test]
fn data_of_another_side_is_resampled_and_its_description_says_so() {
    let [own, larger] = [32, 48]
        .map(|side| open_from(Some(Path::new(BUNDLED)), None, side, &Options::default()).unwrap());
    assert_eq!((own.resampled_from, larger.resampled_from), (None, Some(32)));
    assert_eq!(
        (larger.train.side(), larger.test.side(), larger.train.len()),
        (48, 48, own.train.len())
    );
    assert_eq!((larger.train.labels(), &larger.sha256), (own.train.labels(), &own.sha256));
    assert!(
        larger.describe().ends_with("; bundled; resampled from 32 x 32 to 48 x 48 pixels)"),
        "{}",
        larger.describe()
    );
    // The same images: their means differ by less than one level.
    let mean = |image: &[u8]| image.iter().map(|&p| f64::from(p)).sum::<f64>() / image.len() as f64;
    for i in 0..20 {
        assert!(
            (mean(&own.test.image(i).unwrap()) - mean(&larger.test.image(i).unwrap())).abs() < 1.0,
            "image {i}"
        );
    }
    // Negative control: another image has another mean.
    assert!((mean(&own.test.image(0).unwrap()) - mean(&larger.test.image(1).unwrap())).abs() > 1.0);
}
