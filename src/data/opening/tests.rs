use super::*;

#[test]
fn a_named_place_without_data_is_an_error_with_the_remedy() {
    let empty = tempfile::tempdir().unwrap();
    let message =
        open_from(Some(empty.path()), None, 32, &Options::default()).unwrap_err().to_string();
    assert!(message.contains(&cifar::remedy(empty.path())), "{message}");
    let message = verify(empty.path(), &Options::default()).unwrap_err().to_string();
    assert!(
        message.contains("holds nothing; name another place")
            && message.contains(&cifar::remedy(empty.path())),
        "{message}"
    );
    let gone = verify(&empty.path().join("gone"), &Options::default()).unwrap_err().to_string();
    assert!(gone.contains("test_batch.bin is missing"), "{gone}");
    let gone = open_from(Some(&empty.path().join("gone")), None, 32, &Options::default())
        .unwrap_err()
        .to_string();
    assert!(gone.contains("does not exist; check the path"), "{gone}");
    std::fs::write(empty.path().join("a.txt"), "x").unwrap();
    let words =
        open_from(Some(empty.path()), None, 32, &Options::default()).unwrap_err().to_string();
    assert!(words.contains("holds no images, but files that are not images (.txt): 1"), "{words}");
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
        verify(place.path(), &Options::default()).unwrap()[0]
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
        verify(place.path(), &Options::default()).unwrap_err().to_string().contains("CIFAR-100")
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
