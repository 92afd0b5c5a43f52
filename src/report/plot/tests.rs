use super::*;

fn texts(ticks: &[(f64, String)]) -> Vec<&str> {
    ticks.iter().map(|t| t.1.as_str()).collect()
}

fn series(points: &[(f64, f64)]) -> Series<'static> {
    Series { name: "loss", points: points.to_vec() }
}

fn save(series: &[Series], style: CurveStyle) -> Result<image::RgbImage> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curve.png");
    let result = save_curve(&path, "Loss", "step", "loss", series, style);
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, usize::from(result.is_ok()), "only the picture remains");
    result.map(|()| image::open(&path).unwrap().to_rgb8())
}

/// Returns the number of pixels in exactly the colour of series `i`.
fn coloured(picture: &image::RgbImage, i: usize) -> usize {
    let RGBColor(r, g, b) = PALETTE[i];
    picture.pixels().filter(|p| p.0 == [r, g, b]).count()
}

#[test]
fn ticks_are_round_numbers_in_suitable_units() {
    assert_eq!(texts(&ticks(0.0, 1.0, 5.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    assert_eq!(texts(&ticks(-1000.0, 52_000.0, 6.0)), ["0", "10k", "20k", "30k", "40k", "50k"]);
    assert_eq!(texts(&ticks(0.0302, 0.0309, 4.0)), ["0.0302", "0.0304", "0.0306", "0.0308"]);
    assert_eq!(texts(&ticks(1.001e6, 1.0022e6, 3.0)), ["1.0010M", "1.0015M", "1.0020M"]);
    assert_eq!(texts(&ticks(0.0, 1e300, 2.0)), ["0", "5e299", "1e300"]);
    assert_eq!(texts(&ticks(0.0, 1e-7, 2.0)), ["0", "5e-8", "1e-7"]);
    assert_eq!(texts(&log_ticks(-2.1, 0.1)), ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]);
    assert_eq!(texts(&log_ticks(-200.5, 201.0)).len(), 7);
}

#[test]
fn neighbouring_ticks_never_have_the_same_text() {
    for (from, to) in [
        (0.0, 1.0),
        (99_999.0, 100_003.0),
        (3e-9, 4.2e-9),
        (-7e5, 2e6),
        (1e15, 1.00001e15),
        (5.0, 5.0001),
    ] {
        let ticks = ticks(from, to, 7.0);
        assert!((3..=20).contains(&ticks.len()), "{ticks:?}");
        assert!(ticks.windows(2).all(|w| w[0].1 != w[1].1), "{ticks:?}");
        assert!(ticks.iter().all(|t| (from..=to).contains(&t.0)), "{ticks:?}");
    }
}

#[test]
fn draws_a_curve_in_its_colour_and_a_second_one_in_another() {
    let rising: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(i))).collect();
    let falling: Vec<(f64, f64)> = rising.iter().map(|p| (p.0, 99.0 - p.1)).collect();
    let one = save(&[series(&rising)], CurveStyle::default()).unwrap();
    assert_eq!(one.dimensions(), (900, 540));
    assert!(coloured(&one, 0) > 300 && coloured(&one, 1) == 0);
    let two = save(&[series(&rising), series(&falling)], CurveStyle::default()).unwrap();
    assert!(coloured(&two, 0) > 300 && coloured(&two, 1) > 300);
}

#[test]
fn one_point_and_huge_ranges_are_drawn() {
    for points in [
        &[(3.0, 0.0)][..],
        &[(1e300, -1e300)],
        &[(0.0, 1e-300), (1.0, 1e300)],
        &[(0.0, 5.0), (1.0, 5.0)],
    ] {
        assert!(
            coloured(&save(&[series(points)], CurveStyle::default()).unwrap(), 0) > 10,
            "{points:?}"
        );
    }
    let log = CurveStyle { log_y: true, smooth: 3, ..Default::default() };
    let pairs = [(0.0, 1e-300), (1.0, 1.0), (2.0, 1e300), (3.0, 1e-300)];
    assert!(coloured(&save(&[series(&pairs)], log).unwrap(), 0) > 10);
}

#[test]
fn errors_name_the_series_that_cannot_be_drawn() {
    let message =
        |points: &[(f64, f64)], style| save(&[series(points)], style).unwrap_err().to_string();
    let plain = CurveStyle::default();
    assert!(message(&[], plain).contains("there are no points"));
    assert!(message(&[(0.0, f64::NAN)], plain).contains("series \"loss\" has the point (0, NaN)"));
    assert!(message(&[(0.0, -1e308), (1.0, 1e308)], plain).contains("span more"));
    assert!(
        message(&[(2.0, 0.0)], CurveStyle { log_y: true, ..Default::default() })
            .contains("point (2, 0)")
    );
}

#[test]
fn smoothing_keeps_straight_lines_and_flattens_noise() {
    let line: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
    let smoothed = running_mean(&line, 5);
    assert!(
        line[..7].iter().zip(&smoothed).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12),
        "{smoothed:?}"
    );
    assert!(
        (smoothed[8].1 - 14.0).abs() < 1e-12,
        "the last three of 0, 2, .., 16 have the mean 14: {smoothed:?}"
    );
    let noise: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), f64::from(i % 2))).collect();
    assert!(running_mean(&noise, 7)[3..6].iter().all(|p| (p.1 - 0.5).abs() < 0.1));
}

/// Returns the distance between the first and the last row of the plot with pixels in exactly the
/// colour of the first series.
fn height_of(picture: &image::RgbImage) -> u32 {
    let RGBColor(r, g, b) = PALETTE[0];
    let inked: Vec<u32> = picture
        .enumerate_pixels()
        .filter(|(_, y, p)| *y > 90 && p.0 == [r, g, b])
        .map(|(_, y, _)| y)
        .collect();
    inked.iter().max().expect("a curve") - inked.iter().min().expect("a curve")
}

#[test]
fn noise_of_a_few_rows_does_not_fill_the_axis_but_a_decrease_does() {
    let zigzag: Vec<(f64, f64)> =
        (0..6).map(|i| (f64::from(i), if i % 2 == 0 { 0.050 } else { 0.054 })).collect();
    let style = CurveStyle::of_log(&zigzag);
    assert!(!style.smooths(zigzag.len()), "six points are points and a line");
    let (calm, before) = (
        save(&[series(&zigzag)], style).unwrap(),
        save(&[series(&zigzag)], CurveStyle::default()).unwrap(),
    );
    assert!(
        height_of(&before) > 350,
        "the negative control fills the plot: {}",
        height_of(&before)
    );
    assert!(height_of(&calm) < 120, "{}", height_of(&calm));
    let falling: Vec<(f64, f64)> = (0..6).map(|i| (f64::from(i), 1.0 / f64::from(i + 1))).collect();
    assert_eq!(CurveStyle::of_log(&falling).reach, None);
    // Values without a ratio get no such range.
    for odd in [&[][..], &[(0.0, 0.0)], &[(0.0, -1.0), (1.0, -1.1)], &[(0.0, f64::NAN)]] {
        assert_eq!(CurveStyle::of_log(odd).reach, None, "{odd:?}");
    }
    let (low, high) = CurveStyle::of_log(&[(0.0, 1e-300)]).reach.unwrap();
    assert!(low > 0.0 && (high / low - LEAST_RATIO).abs() < 1e-9);
}

#[test]
fn a_log_has_pale_rows_a_bold_mean_and_both_in_the_legend() {
    let noisy: Vec<(f64, f64)> =
        (0..40).map(|i| (f64::from(i), 1.0 + f64::from(i * 37 % 11))).collect();
    let picture = save(&[series(&noisy)], CurveStyle::of_log(&noisy)).unwrap();
    let RGBColor(r, g, b) = pale(PALETTE[0]);
    let pale_in = |rows: std::ops::Range<u32>| {
        picture.enumerate_pixels().filter(|(_, y, p)| rows.contains(y) && p.0 == [r, g, b]).count()
    };
    assert!(pale_in(40..65) > 10, "the rows in the legend");
    // The rows extend further up and down than their mean; thin lines blend with the white around
    // them.
    let tinted: Vec<u32> = picture
        .enumerate_pixels()
        .filter(|(_, y, p)| *y > 90 && p.0[2] > p.0[0] + 20)
        .map(|(_, y, _)| y)
        .collect();
    let rows = tinted.iter().max().expect("rows") - tinted.iter().min().expect("rows");
    assert!(rows > height_of(&picture) + 100, "{rows} compared with {}", height_of(&picture));
    assert!(coloured(&picture, 0) > 300 && coloured(&picture, 1) == 0, "the mean");
    let few = &noisy[..MEAN_FROM - 1];
    let picture = save(&[series(few)], CurveStyle::of_log(few)).unwrap();
    let legend = picture
        .enumerate_pixels()
        .filter(|(_, y, p)| (40..65).contains(y) && p.0 == [r, g, b])
        .count();
    assert_eq!(legend, 0, "a few rows have no mean");
}

#[test]
fn thinning_keeps_the_extremes_of_every_column() {
    let points: Vec<(f64, f64)> =
        (0..1000).map(|i| (f64::from(i) / 100.0, f64::from((i * 37) % 101))).collect();
    let thin = thinned(&points);
    assert!(thin.len() <= 40);
    for column in 0..10 {
        let extremes = |of: &[(f64, f64)]| {
            let ys = of.iter().filter(|p| p.0.floor() == f64::from(column)).map(|p| p.1);
            ys.fold((f64::MAX, f64::MIN), |(l, h), y| (l.min(y), h.max(y)))
        };
        assert_eq!(extremes(&thin), extremes(&points));
    }
}

#[test]
fn errors_name_the_path_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/curve.png");
    let write =
        |path: &Path| save_curve(path, "", "", "", &[series(&[(0.0, 1.0)])], CurveStyle::default());
    let message = write(&missing).unwrap_err().to_string();
    assert!(
        message.contains(&missing.display().to_string()) && message.contains("check the path"),
        "{message}"
    );
    let message = write(folder.path()).unwrap_err().to_string();
    assert!(message.contains(&folder.path().display().to_string()), "{message}");
}

#[cfg(unix)]
#[test]
fn the_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (picture, plain) = (folder.path().join("curve.png"), folder.path().join("plain"));
    save_curve(&picture, "", "", "", &[series(&[(0.0, 1.0)])], CurveStyle::default()).unwrap();
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&picture), mode(&plain));
}
