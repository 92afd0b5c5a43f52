use super::*;

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("class {i}")).collect()
}

fn save(points: &[[f64; 2]], labels: &[u16], classes: &[String]) -> Result<image::RgbImage> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.png");
    let scatter = Scatter { title: "title", points, labels, classes, ..Default::default() };
    save_scatter(&path, &scatter).map(|_| image::open(&path).unwrap().to_rgb8())
}

/// Returns the centroid of all pixels in the colour of class `i` within the frame, and their
/// number.
fn found(picture: &image::RgbImage, i: usize, n: usize) -> (f64, f64, usize) {
    let RGBColor(r, g, b) = colour(i, n);
    let inside = picture.enumerate_pixels().filter(|(x, y, p)| {
        f64::from(*x) < MARGIN + SIDE && f64::from(*y) > TOP && p.0 == [r, g, b]
    });
    let (x, y, count) = inside.fold((0.0, 0.0, 0), |(sx, sy, n), (x, y, _)| {
        (sx + f64::from(x), sy + f64::from(y), n + 1)
    });
    (x / f64::from(count.max(1)), y / f64::from(count.max(1)), count as usize)
}

#[test]
fn points_have_the_right_positions_and_colours() {
    let picture = save(&[[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]], &[0, 1, 2], &names(3)).unwrap();
    let [a, b, c] = [0, 1, 2].map(|i| found(&picture, i, 3));
    assert!([a, b, c].iter().all(|p| p.2 > 15), "{a:?} {b:?} {c:?}");
    // x grows to the right and y upwards; 10 in x is twice as far as 5 in y. Dots are placed to a
    // third of a pixel.
    assert!((b.0 - a.0 - 0.96 * SIDE).abs() < 1.5 && (b.1 - a.1).abs() < 1.0, "{a:?} {b:?}");
    assert!((a.1 - c.1 - 0.48 * SIDE).abs() < 1.5 && (a.0 - c.0).abs() < 1.0, "{a:?} {c:?}");
}

#[test]
fn the_frame_has_the_proportions_of_the_points() {
    let height = |points: &[[f64; 2]]| save(points, &[0; 2], &[]).unwrap().height();
    let frame = |height: u32| f64::from(height) - TOP - MARGIN;
    assert!((frame(height(&[[0.0, 0.0], [10.0, 5.0]])) - 0.52 * SIDE).abs() < 2.0);
    assert!((frame(height(&[[0.0, 0.0], [10.0, 10.0]])) - SIDE).abs() < 2.0, "a square stays one");
    assert!(
        (frame(height(&[[0.0, 0.0], [10.0, 0.0]])) - LEAST * SIDE).abs() < 2.0,
        "a line has some space around it"
    );
    // A low map doesn't cut off the legend.
    let many = save(&[[0.0, 0.0], [10.0, 0.0]], &[0; 2], &names(LINES)).unwrap();
    assert!(f64::from(many.height()) >= TOP + LINE * LINES as f64);
}

#[test]
fn points_of_two_kinds_are_dots_and_rings_and_the_legend_says_so() {
    let (points, labels, classes) = ([[0.0, 0.0], [10.0, 0.0]], [0, 1], names(2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.png");
    let of = |kinds| {
        let scatter = Scatter {
            points: &points,
            labels: &labels,
            classes: &classes,
            kinds,
            ..Default::default()
        };
        save_scatter(&path, &scatter).unwrap();
        image::open(&path).unwrap().to_rgb8()
    };
    let (plain, two) = (
        of(None),
        of(Some(Kinds { names: ["test image", "training image"], rings: &[false, true] })),
    );
    assert_eq!(found(&plain, 0, 2).2, found(&two, 0, 2).2, "a dot stays a dot");
    assert!(found(&two, 1, 2).2 < found(&plain, 1, 2).2, "a ring has a hole");
    assert!(two.width() > plain.width(), "the legend names the kinds");
}

#[test]
fn thumbnails_are_drawn_where_they_do_not_overlap() {
    let dark = [40u8; 3 * 16];
    let picture = |points: &[[f64; 2]]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        let (labels, thumbnails) = (vec![0; points.len()], vec![&dark[..]; points.len()]);
        let scatter =
            Scatter { points, labels: &labels, thumbnails: &thumbnails, ..Default::default() };
        let drawn = save_scatter(&path, &scatter).unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        (drawn, picture.pixels().filter(|p| p.0 == [40; 3]).count() as f64 / (BIG * BIG))
    };
    let (drawn, area) = picture(&[[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]);
    assert_eq!(drawn, 3);
    assert!((area - 3.0).abs() < 0.1, "three whole pictures: {area}");
    // Two points at one position: one whole thumbnail.
    let (drawn, area) = picture(&[[0.0, 0.0], [10.0, 0.0], [10.0, 0.01]]);
    assert_eq!(drawn, 2);
    assert!((area - 2.0).abs() < 0.1, "{area}");
    // Many points: none of the thumbnails overlap.
    let crowd: Vec<(f64, f64)> =
        (0..400).map(|i| (f64::from(i % 20) * 11.0, f64::from(i / 20) * 13.0)).collect();
    let taken = uncovered(&crowd, 30.0);
    assert!((36..100).contains(&taken.len()), "{}", taken.len());
    let near = |i: usize, j: usize| {
        (crowd[i].0 - crowd[j].0).abs().max((crowd[i].1 - crowd[j].1).abs()) < 30.0
    };
    assert!(taken.iter().all(|&i| taken.iter().all(|&j| i == j || !near(i, j))));
}

#[test]
fn the_legend_grows_with_the_classes_and_colours_differ() {
    let width = |n: usize| save(&[[0.0, 0.0]], &[0], &names(n)).unwrap().width();
    assert!(width(0) < width(2) && width(2) < width(LINES + 1) && width(LINES + 1) < width(MOST));
    assert_eq!(width(MOST), width(MOST + 100));
    for n in [10, 100] {
        let mut colours: Vec<(u8, u8, u8)> = (0..n).map(|i| colour(i, n).rgb()).collect();
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), n);
    }
}

#[test]
fn errors_name_what_cannot_be_drawn_and_points_at_one_position_are_drawn() {
    assert!(save(&[], &[], &[]).unwrap_err().to_string().contains("no points"));
    assert!(
        save(&[[0.0, 0.0], [f64::NAN, 1.0]], &[0, 0], &[])
            .unwrap_err()
            .to_string()
            .contains("point 1 has the coordinates [NaN, 1.0]")
    );
    let spot = save(&[[3.0, 3.0]; 4], &[0; 4], &[]).unwrap();
    let (x, y, count) = found(&spot, 0, 0);
    assert!(
        count > 15 && (x - MARGIN - SIDE / 2.0).abs() < 1.5 && (y - TOP - SIDE / 2.0).abs() < 1.5
    );
    assert!(save(&[[f64::MAX, 0.0], [-f64::MAX, 0.0]], &[0, 0], &[]).is_ok());
}
