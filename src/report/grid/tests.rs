use super::*;

const RED: [f32; 12] = [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0];
/// Grey levels 0, 85, 170 and 255, from the top left.
const STEPS: [f32; 12] = [
    -1.0,
    -1.0 / 3.0,
    1.0 / 3.0,
    1.0,
    -1.0,
    -1.0 / 3.0,
    1.0 / 3.0,
    1.0,
    -1.0,
    -1.0 / 3.0,
    1.0 / 3.0,
    1.0,
];

fn saved(save: impl Fn(&Path) -> Result<()>) -> Result<image::RgbImage> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grid.png");
    let result = save(&path);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), usize::from(result.is_ok()));
    result.map(|()| image::open(&path).unwrap().to_rgb8())
}

#[test]
fn images_are_in_reading_order_with_gaps_between_them() {
    let images = [RED, STEPS, RED].concat();
    let picture = saved(|path| save_grid(path, &images, 2, 2, 3)).unwrap();
    assert_eq!(picture.dimensions(), (18, 18));
    let at = |x, y| picture.get_pixel(x, y).0;
    assert_eq!([at(2, 2), at(7, 7), at(2, 10)], [[255, 0, 0]; 3]);
    assert_eq!([at(10, 2), at(13, 2), at(12, 5), at(13, 7)], [[0; 3], [85; 3], [170; 3], [255; 3]]);
    assert_eq!([at(1, 1), at(8, 2), at(9, 7), at(2, 9), at(10, 10), at(17, 17)], [[255; 3]; 6]);
}

#[test]
fn labelled_blocks_are_set_off_and_labels_are_drawn_next_to_them() {
    let row = |label| GridRow { label, images: vec![&RED[..]; 2] };
    let rows = [row(Some("ours")), row(None), row(Some("originals")), row(None)];
    let picture = saved(|path| save_rows(path, &rows, 2, 20)).unwrap();
    assert_eq!(picture.height() as usize, 4 * 40 + 3 * GAP + BLOCK_GAP + GAP);
    let left = picture.width() as usize - 2 * (40 + GAP);
    let dark = |y: std::ops::Range<usize>| {
        let place = |y| (0..left as u32).map(move |x| (x, y as u32));
        y.flat_map(place).filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 128).count()
    };
    // Ink next to the middle of each block, and none elsewhere.
    let middle = |block: usize| GAP + 40 + 1 + block * (2 * 40 + GAP + BLOCK_GAP);
    assert!(dark(middle(0) - 12..middle(0) + 12) > 20);
    assert!(dark(middle(1) - 12..middle(1) + 12) > dark(middle(0) - 12..middle(0) + 12));
    assert_eq!(dark(0..middle(0) - 12) + dark(middle(0) + 12..middle(1) - 12), 0);
    assert_eq!(picture.get_pixel(left as u32, 2).0, [255, 0, 0]);
}

#[test]
fn captions_are_below_their_images_and_push_columns_apart() {
    let row = |label| GridRow { label, images: vec![&RED[..]; 2] };
    let rows = [row(None), row(None)];
    let captions = |texts: [&str; 4]| {
        texts.map(String::from).chunks(2).map(<[String]>::to_vec).collect::<Vec<_>>()
    };
    let captioned =
        |texts| saved(|path| save_captioned(path, &[], &rows, &captions(texts), 2, 20)).unwrap();
    let plain = saved(|path| save_rows(path, &rows, 2, 20)).unwrap();
    let picture = captioned(["", "xxx", "", ""]);
    let below = (CAPTION * 1.5) as u32;
    assert_eq!(picture.height(), plain.height() + 2 * below);
    // Ink only below the second image of the first row.
    let dark = |x: std::ops::Range<u32>, top: u32| {
        let place = |y| x.clone().map(move |x| (x, y));
        (top..top + below)
            .flat_map(place)
            .filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 160)
            .count()
    };
    let (middle, bottom) = (picture.width() / 2, GAP as u32 + 40);
    assert!(dark(middle..picture.width(), bottom) > 10);
    assert_eq!(
        dark(0..middle, bottom) + dark(0..picture.width(), bottom + 40 + below + GAP as u32),
        0
    );
    assert!(captioned(["", "wider than the image", "", ""]).width() > plain.width() + 40);
}

#[test]
fn long_names_are_shortened_in_the_middle() {
    assert_eq!(
        shortened("test:17 (cats/3.jpg, cats)", MOST_TEXT, TEXT),
        "test:17 (cats/3.jpg, cats)"
    );
    let long = format!("test:17 (cats/{}17.jpg, cats)", "a long name ".repeat(30));
    let cut = shortened(&long, MOST_TEXT, TEXT);
    assert!(
        cut.starts_with("test:17 (cats") && cut.contains("..") && cut.ends_with("jpg, cats)"),
        "{cut}"
    );
    let width = text_width(&cut, TEXT);
    assert!(width <= MOST_TEXT && width > 0.8 * MOST_TEXT, "{width}");
    // Letters of any script, and no space at all.
    assert!(shortened(&"ü猫".repeat(200), MOST_TEXT, TEXT).contains(".."));
    assert_eq!(shortened("wide", 0.0, TEXT), "..");
    // The picture doesn't grow with the length of a name.
    let saved_with = |text: &str| {
        let rows = [GridRow { label: Some(text), images: vec![&RED[..]; 2] }];
        let captions = [vec![text.to_owned(), String::new()]];
        saved(|path| save_captioned(path, &[text, ""], &rows, &captions, 2, 20)).unwrap().width()
    };
    assert_eq!(saved_with(&long), saved_with(&format!("{long}{long}")));
}

#[test]
fn refuses_pixels_that_are_not_finite_and_empty_grids() {
    let mut bad = STEPS;
    bad[5] = f32::NAN;
    let rows = [
        GridRow { label: None, images: vec![&RED[..]] },
        GridRow { label: None, images: vec![&RED[..], &bad] },
    ];
    let message = saved(|path| save_rows(path, &rows, 2, 1)).unwrap_err().to_string();
    assert!(message.contains("grid.png: a pixel of image 1 in row 1 is NaN"), "{message}");
    assert!(
        saved(|path| save_rows(path, &[], 2, 1))
            .unwrap_err()
            .to_string()
            .contains("there are no images")
    );
    assert_eq!(saved(|path| save_grid(path, &RED, 2, 0, 1)).unwrap_err().exit_code(), 2);
    assert_eq!(saved(|path| save_rows(path, &rows[..1], 2, 0)).unwrap_err().exit_code(), 2);
}

#[test]
fn errors_name_the_path_that_cannot_be_written() {
    let path = tempfile::tempdir().unwrap().path().join("gone").join("grid.png");
    let message = save_grid(&path, &RED, 2, 1, 1).unwrap_err().to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
}

#[test]
#[should_panic(expected = "save_grid: 11 values are not [N, 3, 2, 2]")]
fn panics_on_a_length_that_is_not_a_batch_of_images() {
    let _ = save_grid(Path::new("unused.png"), &[0.0; 11], 2, 1, 1);
}
