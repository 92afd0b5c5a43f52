use super::*;
use crate::data::rand_augment::tests::pattern;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const IMAGE: usize = 3 * PLANE;

/// A recipe with two augmented views and noise on the source.
pub fn recipe() -> DataConfig {
    let view = |noise| ViewConfig {
        side: 0,
        crop: 0.95,
        crop_scale: [0.08, 1.0],
        crop_ratio: [0.75, 1.333_333_4],
        flip: 0.5,
        color_jitter: 0.0,
        color_jitter_strength: 0.5,
        grayscale: 0.0,
        rand_augment: 0.65,
        rand_augment_ops: 2,
        rand_augment_magnitude: 9,
        noise,
    };
    let (mean, std) = ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]);
    DataConfig {
        side: SIDE,
        views: Views::Two,
        mean,
        std,
        source: view(0.1),
        target: view(0.0),
        threads: 2,
    }
}

/// A view configuration without augmentation.
fn plain() -> ViewConfig {
    ViewConfig { crop: 0.0, rand_augment: 0.0, noise: 0.0, ..recipe().source }
}

fn pair(data: &DataConfig, seed: u64, epoch: u64, index: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut source, mut target) = (vec![f32::NAN; IMAGE], vec![f32::NAN; IMAGE]);
    make_pair(&pattern(), data, seed, epoch, index, &mut source, &mut target);
    (source, target)
}

#[test]
fn pairs_repeat_by_seed_epoch_and_index_and_differ_otherwise() {
    let data = recipe();
    let first = pair(&data, 1, 2, 3);
    assert_eq!(first, pair(&data, 1, 2, 3));
    for other in [pair(&data, 0, 2, 3), pair(&data, 1, 0, 3), pair(&data, 1, 2, 0)] {
        assert_ne!(first.0, other.0);
        assert_ne!(first.1, other.1);
    }
    assert!(first.1.iter().all(|v| (-1.0..=1.0).contains(v)));
}

#[test]
fn same_views_are_the_plain_image_twice_whatever_the_view_settings() {
    let (source, target) = pair(&DataConfig { views: Views::Same, ..recipe() }, 1, 2, 3);
    for (i, p) in pattern().into_iter().enumerate() {
        let (mean, std) = (recipe().mean[i / PLANE], recipe().std[i / PLANE]);
        assert!((source[i] - (f32::from(p) / 255.0 - mean) / std).abs() < 1e-5);
        assert_eq!(target[i], f32::from(p) / 127.5 - 1.0);
    }
}

#[test]
fn noise_has_the_requested_deviation_and_only_where_requested() {
    let data =
        DataConfig { source: ViewConfig { noise: 0.1, ..plain() }, target: plain(), ..recipe() };
    let mut clean = vec![0.0; IMAGE];
    normalise(&pattern(), &data, &mut clean);
    let (source, target) = pair(&data, 1, 0, 0);
    let noise: Vec<f32> = source.iter().zip(&clean).map(|(s, c)| s - c).collect();
    let deviation = (noise.iter().map(|n| n * n).sum::<f32>() / IMAGE as f32).sqrt();
    // Five standard errors of a standard deviation estimated from 3,072 samples.
    assert!((deviation - 0.1).abs() < 5.0 * 0.1 / (2.0 * IMAGE as f32).sqrt(), "{deviation}");
    to_signed(&pattern(), &mut clean);
    assert_eq!(target, clean);
}

#[test]
fn crops_of_a_ramp_average_to_its_middle_and_half_of_them_are_flipped() {
    let ramp: Vec<u8> = (0..IMAGE).map(|i| (i % SIDE * 8) as u8).collect();
    let config = ViewConfig { crop: 1.0, ..plain() };
    let mut rng = rng::stream(1, Purpose::Test, 0);
    let n = 4_000;
    let (mut sum, mut flipped, mut contrast) = (0.0, 0, 0.0);
    for _ in 0..n {
        let (view, _) = view(&ramp, SIDE, &config, true, &mut rng);
        sum += view.iter().map(|&p| f64::from(p)).sum::<f64>() / IMAGE as f64;
        let (left, right) = (f64::from(view[5 * SIDE]), f64::from(view[5 * SIDE + 31]));
        flipped += usize::from(left > right);
        contrast += (left - right).abs();
    }
    // The ramp's own mean is 124, and that of a crop deviates from it by less than 70.
    assert!((sum / f64::from(n) - 124.0).abs() < 4.0, "mean {}", sum / f64::from(n));
    assert!((1_840..2_160).contains(&flipped), "{flipped} of {n} flipped");
    // A window shows part of the ramp: 248 from end to end for the whole image, about 0.7 of it for
    // the mean window.
    assert!(
        (130.0..220.0).contains(&(contrast / f64::from(n))),
        "mean contrast {}",
        contrast / f64::from(n)
    );
}

#[test]
fn every_switch_is_off_at_probability_0_and_on_at_1() {
    let count = |config: &ViewConfig| {
        (0..200)
            .filter(|&i| {
                view(&pattern(), SIDE, config, true, &mut rng::stream(1, Purpose::Test, i)).0
                    != pattern()
            })
            .count()
    };
    assert_eq!(count(&ViewConfig { flip: 1.0, ..plain() }), 0, "a flip belongs to the crop");
    assert!(count(&ViewConfig { crop: 1.0, ..plain() }) > 190);
    assert!(count(&ViewConfig { rand_augment: 1.0, ..plain() }) > 150);
    let whole = ViewConfig {
        crop: 1.0,
        crop_scale: [1.0, 1.0],
        crop_ratio: [1.0, 1.0],
        flip: 1.0,
        ..plain()
    };
    let mut mirrored = pattern();
    flip(&mut mirrored);
    assert_eq!(
        view(&pattern(), SIDE, &whole, true, &mut rng::stream(1, Purpose::Test, 0)).0,
        mirrored
    );
}

#[test]
fn plain_inputs_follow_the_order_of_the_indices_and_are_mirrored_on_request() {
    let mut mirrored = pattern();
    flip(&mut mirrored);
    let images = Images::new(SIDE, [pattern(), mirrored].concat(), vec![0, 1]);
    let [mut a, mut b, mut target] = [(); 3].map(|()| vec![0.0; 2 * IMAGE]);
    plain_source(&images, &[0, 1], &recipe(), false, &mut a).unwrap();
    plain_source(&images, &[1, 0], &recipe(), true, &mut b).unwrap();
    assert_eq!(a, b);
    plain_target(&images, &[1, 0], SIDE, &mut target).unwrap();
    assert_eq!(target[IMAGE], f32::from(pattern()[0]) / 127.5 - 1.0);
}

#[test]
fn views_have_the_requested_sides_and_show_the_same_regions() {
    for (own, source, target) in [(32, 16, 48), (64, 40, 64), (40, 40, 40)] {
        // Red increases from left to right, green from top to bottom.
        let plane = own * own;
        let value = |i: usize| [i % own, i % plane / own, 0][i / plane] * 240 / own;
        let image: Vec<u8> = (0..3 * plane).map(|i| value(i) as u8).collect();
        let views = [(source, recipe().source), (target, recipe().target)];
        let [source_view, target_view] = views.map(|(side, view)| ViewConfig {
            side,
            crop: 1.0,
            rand_augment: 0.0,
            noise: 0.0,
            ..view
        });
        let data = DataConfig {
            side: own,
            mean: [0.0; 3],
            std: [1.0; 3],
            source: source_view,
            target: target_view,
            ..recipe()
        };
        let [mut x, mut y] = [source, target].map(|side| vec![f32::NAN; 3 * side * side]);
        // Points that were compared, and those that agree without the mapping, too.
        let (mut compared, mut unmapped) = (0, 0);
        for index in 0..20 {
            let [scale_x, offset_x, scale_y, offset_y] =
                make_pair(&image, &data, 1, 0, index, &mut x, &mut y);
            // Points of the target as seen in the source. If one lies outside, there is nothing to
            // compare.
            for (channel, scale, offset) in [(0, scale_x, offset_x), (1, scale_y, offset_y)] {
                let at = |side: usize, place: f32| {
                    ((place + 1.0) / 2.0 * side as f32 - 0.5).round() as usize
                };
                let pixel = |values: &[f32], side: usize, along: usize, value: fn(f32) -> f32| {
                    let other = side / 2;
                    let i = if channel == 0 { other * side + along } else { along * side + other };
                    value(values[channel * side * side + i])
                };
                for place in [-0.4, 0.0, 0.4] {
                    let seen = scale * place + offset;
                    if seen.abs() > 0.9 {
                        continue;
                    }
                    let a = pixel(&x, source, at(source, seen), |v| v);
                    let b = pixel(&y, target, at(target, place), |v| (v + 1.0) / 2.0);
                    // Half a pixel of either view, plus rounding.
                    let slack =
                        0.5 * 240.0 / 255.0 * (1.0 / source as f32 + 1.0 / target as f32) + 0.02;
                    assert!(
                        (a - b).abs() < slack,
                        "{own} {source} {target}, {index}, {channel}: {a} and {b}"
                    );
                    compared += 1;
                    let c = pixel(&x, source, at(source, place), |v| v);
                    unmapped += usize::from((c - b).abs() < slack);
                }
            }
        }
        assert!(compared > 60 && unmapped < compared / 2, "{compared} compared, {unmapped} agree");
    }
}

#[test]
fn colours_change_only_if_enabled_and_disabled_switches_consume_no_random_numbers() {
    let drawn = |config: &ViewConfig| {
        let mut rng = rng::stream(5, Purpose::Test, 0);
        let (image, geometry) = view(&pattern(), SIDE, config, true, &mut rng);
        (image, geometry, rng.random::<u64>())
    };
    let cropped = ViewConfig { crop: 1.0, ..plain() };
    let (image, geometry, next) = drawn(&cropped);
    // The strength has no effect on its own.
    assert_eq!(
        drawn(&ViewConfig { color_jitter_strength: 1.0, ..cropped.clone() }),
        (image.clone(), geometry, next)
    );
    let (grey, same, after) = drawn(&ViewConfig { grayscale: 1.0, ..cropped.clone() });
    assert!(same == geometry && after != next && grey != image);
    assert!(grey[..PLANE] == grey[PLANE..2 * PLANE] && grey[..PLANE] == grey[2 * PLANE..]);
    let (jittered, same, _) = drawn(&ViewConfig { color_jitter: 1.0, ..cropped.clone() });
    assert!(
        same == geometry && jittered != image && jittered[..PLANE] != jittered[PLANE..2 * PLANE]
    );
    // The rate is the configured probability.
    let count = |config: &ViewConfig| {
        (0..400)
            .filter(|&i| {
                view(&pattern(), SIDE, config, true, &mut rng::stream(5, Purpose::Test, i)).0
                    != pattern()
            })
            .count()
    };
    let [grey, jittered] = [0.2, 0.8].map(|p: f64| (400.0 * p, (400.0 * p * (1.0 - p)).sqrt()));
    for (config, (mean, deviation)) in [
        (ViewConfig { grayscale: 0.2, ..plain() }, grey),
        (ViewConfig { color_jitter: 0.8, ..plain() }, jittered),
    ] {
        assert!((count(&config) as f64 - mean).abs() < 5.0 * deviation, "{config:?}");
    }
}

#[test]
fn bytes_cover_the_range_and_clip() {
    assert_eq!([-7.0, -1.0, 0.0, 1.0, 7.0].map(to_byte), [0, 0, 128, 255, 255]);
    // Bytes survive the round trip.
    let (bytes, mut signed): (Vec<u8>, _) = ((0..=255).collect(), [0.0; 256]);
    to_signed(&bytes, &mut signed);
    assert!(signed.iter().zip(bytes).all(|(&value, byte)| to_byte(value) == byte));
}
