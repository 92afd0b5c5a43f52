use super::*;
use crate::data::rand_augment::tests::pattern;
use crate::files::sha256;
use crate::rng::{self, Purpose};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const WHOLE: Window = Window::whole(SIDE);

fn config(scale: [f32; 2], ratio: [f32; 2]) -> ViewConfig {
    let (rand_augment_ops, rand_augment_magnitude) = (0, 0);
    let (crop_scale, crop_ratio) = (scale, ratio);
    ViewConfig {
        side: 0,
        crop: 1.0,
        crop_scale,
        crop_ratio,
        flip: 0.0,
        color_jitter: 0.0,
        color_jitter_strength: 0.5,
        grayscale: 0.0,
        rand_augment: 0.0,
        rand_augment_ops,
        rand_augment_magnitude,
        noise: 0.0,
    }
}

#[test]
fn resizes_windows_as_pillow_does() {
    // Printed by tests/reference/rand_augment.py.
    for ([top, left, height, width], digests) in [
        (
            [0, 0, 32, 32],
            ["1dbf197f99e929fb", "ae62a2c1f28b1335", "06e24045b914d537", "0956430b21f86fbc"],
        ),
        (
            [3, 5, 20, 17],
            ["b92b96961dec86ff", "f0a012e559191aba", "944e79e58e08b21a", "0ce2f09336fea33e"],
        ),
        (
            [31, 30, 1, 2],
            ["800ad4538e98e97a", "9b692fb74ee49b18", "764e8d0fd1204af0", "efe05019960b6022"],
        ),
        (
            [1, 0, 31, 9],
            ["59f714501574967f", "53befe93c1ec3b73", "807d6f9892df6636", "27d98ca66d56dcb8"],
        ),
        (
            [10, 4, 5, 28],
            ["d4221ed35ebca5de", "d9583e6fea64dd6c", "875091bccb4dd091", "e1e3ba998d95adcc"],
        ),
    ] {
        let window = Window { top, left, height, width };
        for (side, digest) in [32, 8, 16, 48].into_iter().zip(digests) {
            assert_eq!(
                &sha256(&resized_crop(&pattern(), window, false, side))[..16],
                digest,
                "{window:?} to {side}"
            );
        }
    }
}

#[test]
fn a_mirrored_crop_is_the_mirror_image_of_the_crop() {
    for window in [
        WHOLE,
        Window { top: 2, left: 9, height: 30, width: 11 },
        Window { top: 31, left: 31, height: 1, width: 1 },
    ] {
        let mut mirrored = resized_crop(&pattern(), window, false, SIDE);
        flip(&mut mirrored);
        assert_eq!(mirrored, resized_crop(&pattern(), window, true, SIDE), "{window:?}");
    }
}

#[test]
fn flipping_twice_changes_nothing_and_once_swaps_the_columns() {
    let mut image = pattern();
    flip(&mut image);
    assert_eq!((image[0], image[PLANE + 40]), (pattern()[31], pattern()[PLANE + 32 + 23]));
    flip(&mut image);
    assert_eq!(image, pattern());
}

#[test]
fn windows_have_the_requested_area_and_ratio_and_reach_every_edge() {
    let config = config([0.2, 0.9], [0.75, 4.0 / 3.0]);
    let mut rng = rng::stream(1, Purpose::Test, 0);
    let windows: Vec<Window> = (0..20_000).map(|_| draw_window(SIDE, &config, &mut rng)).collect();
    for w in &windows {
        assert!(w.top + w.height <= SIDE && w.left + w.width <= SIDE, "{w:?}");
        // Side lengths are rounded to pixels.
        let area = (w.height * w.width) as f64 / PLANE as f64;
        assert!((0.17..0.94).contains(&area), "{w:?}");
        assert!((0.68..1.47).contains(&(w.width as f64 / w.height as f64)), "{w:?}");
    }
    let mean =
        |f: &dyn Fn(&Window) -> f64| windows.iter().map(f).sum::<f64>() / windows.len() as f64;
    // Wide and tall windows are equally likely, and so are all positions.
    assert!(mean(&|w| (w.width as f64 / w.height as f64).ln()).abs() < 0.01);
    assert!((mean(&|w| w.left as f64 + w.width as f64 / 2.0) - 16.0).abs() < 0.15);
    assert!((mean(&|w| w.top as f64 + w.height as f64 / 2.0) - 16.0).abs() < 0.15);
    assert!(
        windows.iter().any(|w| w.left + w.width == SIDE && w.left > 0),
        "no window at the right edge"
    );
}

#[test]
fn falls_back_to_the_largest_central_window() {
    // A window of the full area that is twice as wide as high never fits.
    let window =
        draw_window(SIDE, &config([1.0, 1.0], [2.0, 2.5]), &mut rng::stream(1, Purpose::Test, 1));
    assert_eq!(window, Window { top: 8, left: 0, height: 16, width: 32 });
    assert_eq!(
        central_window(SIDE, [0.25, 0.5]),
        Window { top: 0, left: 8, height: 32, width: 16 }
    );
    assert_eq!(central_window(SIDE, [0.75, 1.3]), WHOLE);
    assert_eq!(
        draw_window(SIDE, &config([1.0, 1.0], [1.0, 1.0]), &mut rng::stream(1, Purpose::Test, 2)),
        WHOLE
    );
}

#[test]
fn a_geometry_locates_one_view_within_another() {
    // Red increases from left to right, green from top to bottom, so a pixel's colour encodes its
    // position in the image.
    let place = |i: usize| match (i / PLANE, i % SIDE, i % PLANE / SIDE) {
        (0, x, _) => 7 * x as u8,
        (1, _, y) => 7 * y as u8,
        _ => 0,
    };
    let ramp: Vec<u8> = (0..3 * PLANE).map(place).collect();
    let window = |top, left, height, width| Window { top, left, height, width };
    let views = [
        (WHOLE, false),
        (window(2, 6, 20, 24), true),
        (window(8, 0, 16, 12), false),
        (window(0, 4, 32, 28), true),
    ];
    let centre = |i: usize| (2 * i + 1) as f32 / SIDE as f32 - 1.0;
    let mut largest = 0f32;
    for (source_window, source_flip) in views {
        let source = Geometry { window: source_window, flip: source_flip };
        let source_view = resized_crop(&ramp, source_window, source_flip, SIDE);
        for (window, flip) in views {
            let view = resized_crop(&ramp, window, flip, SIDE);
            let [scale_x, offset_x, scale_y, offset_y] =
                (Geometry { window, flip }).within(&source);
            for (x, y) in [(8, 9), (16, 20), (21, 13)] {
                let place = [scale_x * centre(x) + offset_x, scale_y * centre(y) + offset_y];
                let [column, row] = place.map(|p| (p + 1.0) / 2.0 * SIDE as f32 - 0.5);
                // Away from the edges, where enlarging has nothing to interpolate with.
                if !(2.0..29.0).contains(&column) || !(2.0..29.0).contains(&row) {
                    continue;
                }
                for (plane, at, along) in [(0, column, 1), (1, row, SIDE)] {
                    let other = if plane == 0 {
                        row.round() as usize * SIDE
                    } else {
                        column.round() as usize
                    };
                    let pixel =
                        |i: usize| f32::from(source_view[plane * PLANE + other + i * along]);
                    let (below, share) = (at.floor() as usize, at.fract());
                    let seen = pixel(below) * (1.0 - share) + pixel(below + 1) * share;
                    let own = f32::from(view[plane * PLANE + y * SIDE + x]);
                    // Both views are rounded to bytes, twice.
                    assert!(
                        (seen - own).abs() <= 2.5,
                        "{window:?} {flip} in {source:?}: {seen} and {own}"
                    );
                    largest =
                        largest.max((seen - f32::from(ramp[plane * PLANE + y * SIDE + x])).abs());
                }
            }
        }
    }
    assert!(largest > 20.0, "the views differ from the plain image");
}

#[test]
fn the_window_in_the_plain_image_follows_from_its_geometry_within_it() {
    let plain = Geometry::plain(32);
    for (window, flip) in [
        (Window { top: 0, left: 0, height: 32, width: 32 }, false),
        (Window { top: 3, left: 10, height: 20, width: 7 }, true),
        (Window { top: 31, left: 31, height: 1, width: 1 }, false),
    ] {
        let geometry = Geometry { window, flip };
        assert_eq!(Geometry::of_plain(geometry.within(&plain), 32), geometry);
    }
    // A window that lies outside is moved inside.
    let outside = Geometry::of_plain([1.0, 3.0, 2.0, 0.0], 32);
    assert_eq!(outside.window, Window::whole(32));
}
