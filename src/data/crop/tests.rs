use super::*;
use crate::data::rand_augment::tests::pattern;
use crate::files::sha256;
use crate::rng::{self, Purpose};

const WHOLE: Window = Window { top: 0, left: 0, height: SIDE, width: SIDE };

fn config(scale: [f32; 2], ratio: [f32; 2]) -> ViewConfig {
    let (rand_augment_ops, rand_augment_magnitude) = (0, 0);
    let (crop_scale, crop_ratio) = (scale, ratio);
    ViewConfig {
        crop: 1.0,
        crop_scale,
        crop_ratio,
        flip: 0.0,
        rand_augment: 0.0,
        rand_augment_ops,
        rand_augment_magnitude,
        noise: 0.0,
    }
}

#[test]
fn stretches_windows_as_pillow_does() {
    // Printed by tests/reference/rand_augment.py.
    for ([top, left, height, width], digest) in [
        ([0, 0, 32, 32], "1dbf197f99e929fb"),
        ([3, 5, 20, 17], "b92b96961dec86ff"),
        ([31, 30, 1, 2], "800ad4538e98e97a"),
        ([1, 0, 31, 9], "59f714501574967f"),
        ([10, 4, 5, 28], "d4221ed35ebca5de"),
    ] {
        let window = Window { top, left, height, width };
        assert_eq!(&sha256(&resized_crop(&pattern(), window, false))[..16], digest, "{window:?}");
    }
}

#[test]
fn a_mirrored_crop_is_the_mirror_image_of_the_crop() {
    for window in [WHOLE, Window { top: 2, left: 9, height: 30, width: 11 }, Window { top: 31, left: 31, height: 1, width: 1 }] {
        let mut mirrored = resized_crop(&pattern(), window, false);
        flip(&mut mirrored);
        assert_eq!(mirrored, resized_crop(&pattern(), window, true), "{window:?}");
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
fn windows_have_the_area_and_ratio_asked_for_and_reach_every_edge() {
    let config = config([0.2, 0.9], [0.75, 4.0 / 3.0]);
    let mut rng = rng::stream(1, Purpose::Test, 0);
    let windows: Vec<Window> = (0..20_000).map(|_| draw_window(&config, &mut rng)).collect();
    for w in &windows {
        assert!(w.top + w.height <= SIDE && w.left + w.width <= SIDE, "{w:?}");
        // Sides are rounded to pixels.
        let area = (w.height * w.width) as f64 / PLANE as f64;
        assert!((0.17..0.94).contains(&area), "{w:?}");
        assert!((0.68..1.47).contains(&(w.width as f64 / w.height as f64)), "{w:?}");
    }
    let mean = |f: &dyn Fn(&Window) -> f64| windows.iter().map(f).sum::<f64>() / windows.len() as f64;
    // Wide and high windows are equally likely, and so are all places.
    assert!(mean(&|w| (w.width as f64 / w.height as f64).ln()).abs() < 0.01);
    assert!((mean(&|w| w.left as f64 + w.width as f64 / 2.0) - 16.0).abs() < 0.15);
    assert!((mean(&|w| w.top as f64 + w.height as f64 / 2.0) - 16.0).abs() < 0.15);
    assert!(windows.iter().any(|w| w.left + w.width == SIDE && w.left > 0), "no window at the right edge");
}

#[test]
fn falls_back_to_the_largest_central_window() {
    // A whole image twice as wide as high never fits.
    let window = draw_window(&config([1.0, 1.0], [2.0, 2.5]), &mut rng::stream(1, Purpose::Test, 1));
    assert_eq!(window, Window { top: 8, left: 0, height: 16, width: 32 });
    assert_eq!(central_window([0.25, 0.5]), Window { top: 0, left: 8, height: 32, width: 16 });
    assert_eq!(central_window([0.75, 1.3]), WHOLE);
    assert_eq!(draw_window(&config([1.0, 1.0], [1.0, 1.0]), &mut rng::stream(1, Purpose::Test, 2)), WHOLE);
}
