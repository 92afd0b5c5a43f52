use super::*;
use crate::data::rand_augment::tests::pattern;
use crate::files::sha256;
use crate::rng::Purpose;

fn stream(i: u64) -> Stream {
    rng::stream(7, Purpose::Test, i)
}

/// The expected digests are printed by `tests/reference/rand_augment.py`.
#[test]
fn hue_and_grey_are_what_pillow_gives() {
    let digest = |change: &dyn Fn(&mut [u8])| {
        let mut image = pattern();
        change(&mut image);
        sha256(&image)[..16].to_owned()
    };
    for (turn, want) in [
        (0.1, "f3ed21b3558c4d2c"),
        (-0.1, "259839f71d549300"),
        (0.05, "0b6b0dfa6473cd46"),
        (-0.37, "2235791ae865173e"),
        (0.5, "ddc558b3b190feee"),
        (0.0, "e7a0cc74503e1093"),
    ] {
        assert_eq!(digest(&|image| turn_hue(image, turn)), want, "a turn of {turn}");
    }
    assert_eq!(digest(&grayscale), "7e93fa916257dfd0");
}

#[test]
fn jitter_repeats_by_its_stream_and_grows_with_its_strength() {
    let jittered = |strength: f32, i: u64| {
        let mut image = pattern();
        color_jitter(&mut image, strength, &mut stream(i));
        image
    };
    let difference = |strength: f32| {
        let of = |i: u64| {
            jittered(strength, i)
                .iter()
                .zip(pattern())
                .map(|(a, b)| f64::from(a.abs_diff(b)))
                .sum::<f64>()
        };
        (0..20).map(of).sum::<f64>() / (20 * pattern().len()) as f64
    };
    assert_eq!(jittered(0.5, 3), jittered(0.5, 3));
    assert_ne!(jittered(0.5, 3), jittered(0.5, 4));
    let [none, half, whole] = [0.0, 0.5, 1.0].map(difference);
    // Strength 0 costs only the conversion to HSV and back, whose hues are bytes.
    assert!(none < 4.0 && half > 2.0 * none && whole > 1.3 * half, "{none} {half} {whole}");
}

#[test]
fn jitter_follows_the_values_of_its_stream() {
    for i in 0..30 {
        let mut numbers = stream(i);
        let order = rng::permutation(&mut numbers, 4);
        let [brightness, contrast, saturation, hue] =
            [0.4, 0.4, 0.4, 0.1].map(|range| range * (2.0 * numbers.random::<f64>() - 1.0));
        let mut want = pattern();
        for change in order {
            match change {
                0 => Op::Brightness.apply(&mut want, brightness),
                1 => Op::Contrast.apply(&mut want, contrast),
                2 => Op::Color.apply(&mut want, saturation),
                _ => turn_hue(&mut want, hue),
            }
        }
        let mut got = pattern();
        color_jitter(&mut got, 0.5, &mut stream(i));
        assert_eq!(got, want, "stream {i}");
    }
}

#[test]
fn every_order_occurs_and_matters() {
    let orders: std::collections::HashSet<_> =
        (0..400).map(|i| rng::permutation(&mut stream(i), 4)).collect();
    assert_eq!(orders.len(), 24);
    let both = |ops: [(Op, f64); 2]| {
        let mut image = pattern();
        ops.iter().for_each(|(op, m)| op.apply(&mut image, *m));
        image
    };
    let (light, flat) = ((Op::Brightness, 0.4), (Op::Contrast, -0.4));
    assert_ne!(both([light, flat]), both([flat, light]));
}
