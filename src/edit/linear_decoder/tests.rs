use super::*;
use crate::config::{Config, DataConfig};
use crate::data::Images;
use crate::rng::Stream;
use rand::RngExt;

const SIDE: usize = 16;
const Z: usize = 6;

fn stream(index: u64) -> Stream {
    rng::stream(7, Purpose::Test, index)
}

/// A recipe of views of [`SIDE`] pixels; `crop` is the probability that the target is cropped.
fn recipe(crop: f32) -> DataConfig {
    let sets = [
        format!("data.side={SIDE}"),
        format!("data.target.crop={crop}"),
        "model.unet.multipliers=[1,2]".into(),
    ];
    Config::parse(crate::config::BUILT_IN[1].1, "quick.toml", &sets).expect("a recipe").data
}

/// Returns `n` images that are a linear map of z plus noise of `sigma` grey levels in the upper
/// quarter, and z.
fn linear_images(n: usize, sigma: f32) -> (Images, Vec<f32>) {
    let image = bytes_of(SIDE);
    let (z, map) = (rng::normal(&mut stream(0), n * Z), rng::normal(&mut stream(1), Z * image));
    let noise = rng::normal(&mut stream(2), n * image);
    let pixel = |i: usize| {
        let (row, at) = (i / image, i % image);
        let signal: f32 = (0..Z).map(|k| z[row * Z + k] * map[k * image + at]).sum();
        let noise = if at % (SIDE * SIDE) < SIDE * SIDE / 4 { sigma * noise[i] } else { 0.0 };
        (128.0 + 12.0 * signal + noise).round().clamp(0.0, 255.0) as u8
    };
    (Images::new(SIDE, (0..n * image).map(pixel).collect(), vec![0; n]), z)
}

fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    assert!(a.len() == b.len() && a.iter().chain(b).all(|v| v.is_finite()));
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64
}

fn signed(images: &Images) -> Vec<f32> {
    let mut out = vec![0.0; images.len() * bytes_of(SIDE)];
    views::plain_target(images, &(0..images.len()).collect::<Vec<_>>(), SIDE, &mut out).unwrap();
    out
}

#[test]
fn images_that_are_linear_in_z_are_reconstructed_from_it() {
    let (images, z) = linear_images(400, 0.0);
    let decoder = fit(&z, Z, &images, &recipe(0.0)).expect("a fit");
    assert_eq!((decoder.z_dim(), decoder.side()), (Z, SIDE));
    let (pictures, wanted) = (decoder.mean(&z), signed(&images));
    // Rounding to bytes leaves 1 / 12 of a level^2, the penalty a thousandth of the variance of 144
    // Z levels^2, f16 less.
    let level = (2.0f64 / 255.0).powi(2);
    let error = mean_square(&pictures, &wanted);
    assert!(error < 1.5 * level, "{} levels^2", error / level);
    // Negative control: the z of other images.
    let mut others = z.clone();
    others.rotate_left(Z);
    assert!(mean_square(&decoder.mean(&others), &wanted) > 100.0 * level);
}

#[test]
fn residuals_have_the_power_and_position_of_what_the_mean_lacks() {
    let (images, z) = linear_images(600, 20.0);
    let decoder = fit(&z, Z, &images, &recipe(0.0)).expect("a fit");
    let drawn = decoder.residuals(0..600, 3);
    let (mut upper, mut lower, plane) = (0.0f64, 0.0f64, SIDE * SIDE);
    for (i, v) in drawn.iter().enumerate() {
        *(if i % plane < plane / 4 { &mut upper } else { &mut lower }) += f64::from(*v).powi(2);
    }
    // Power per pixel, in grey levels^2.
    let of_pixel =
        |sum: f64, share: f64| sum / (share * drawn.len() as f64) / (2.0f64 / 255.0).powi(2);
    let (upper, lower) = (of_pixel(upper, 0.25), of_pixel(lower, 0.75));
    // 400, all of it in 3 * 256 / 4 = 192 components, less the 1 % that z explains by chance with
    // 600 images.
    assert!((upper / 400.0 - 1.0).abs() < 0.1 && lower < 4.0, "{upper}, {lower}");
    // Each depends on its index alone; another seed gives others.
    assert_eq!(decoder.residuals(7..9, 3), drawn[7 * bytes_of(SIDE)..9 * bytes_of(SIDE)]);
    assert_ne!(decoder.residuals(7..9, 4), decoder.residuals(7..9, 3));
}

#[test]
fn components_are_the_principal_ones() {
    // Deviations 1, 1/2, 1/3, .. along the axes.
    let (n, dim) = (2000, 40);
    let mut rows = rng::normal(&mut stream(5), n * dim);
    rows.chunks_exact_mut(dim)
        .for_each(|row| row.iter_mut().enumerate().for_each(|(i, v)| *v /= (i + 1) as f32));
    let found = fit::components(&rows, dim, 5);
    for (i, row) in found.chunks_exact(dim).enumerate() {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        // Five standard errors of a standard deviation from 2,000 draws.
        assert!((length * (i + 1) as f64 - 1.0).abs() < 0.08, "component {i} has length {length}");
        assert!(row[i].abs() / length > 0.97, "component {i} lies along another axis");
    }
    // Rows that don't vary have none.
    assert!(fit::components(&[0.0; 4 * 40], dim, 2).is_empty());
    // With few rows there are no more components than asked for, and all are finite.
    let few = fit::components(&rows[..3 * dim], dim, 2);
    assert!(few.len() <= 2 * dim && few.iter().all(|v| v.is_finite()));
}

#[test]
fn detail_is_restored_if_views_are_enlarged_crops() {
    let mut rng = stream(6);
    let pixels = (0..200 * bytes_of(SIDE)).map(|_| rng.random::<u8>()).collect();
    let images = Images::new(SIDE, pixels, vec![0; 200]);
    let z = rng::normal(&mut rng, 200 * Z);
    let plain = fit(&z, Z, &images, &recipe(0.0)).expect("a fit");
    let drawn = signed(&images);
    assert_eq!(plain.detailed(drawn.clone(), SIDE), drawn, "plain targets lack nothing");
    let cropped = fit(&z, Z, &images, &recipe(1.0)).expect("a fit");
    let fine = |images: &[f32]| crate::eval::spectrum::energy_above(3.0, images, SIDE);
    let half: Vec<f32> = drawn.iter().map(|v| v * 0.3).collect();
    let sharper = cropped.detailed(half.clone(), SIDE);
    assert!(fine(&sharper) > 1.3 * fine(&half), "{} from {}", fine(&sharper), fine(&half));
    // The gain of the mean colour is 1.
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
    assert!((mean(&sharper) - mean(&half)).abs() < 1e-3);
    // No view of a few pixels shows detail, so that what is generated there is noise.
    let mut few_pixels = recipe(1.0);
    few_pixels.target.crop_scale = [0.01, 0.01];
    let blurred = fit(&z, Z, &images, &few_pixels).expect("a fit");
    let same = fine(&blurred.detailed(half.clone(), SIDE));
    assert!((same - fine(&half)).abs() < 1e-3 * same, "{same} from {}", fine(&half));
}

#[test]
fn a_written_decoder_reads_back_unchanged_and_damaged_or_foreign_tensors_are_refused() {
    let (images, z) = linear_images(50, 5.0);
    let decoder = fit(&z, Z, &images, &recipe(1.0)).expect("a fit");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(BESIDE);
    decoder.write(&path, "ab").expect("written");
    let (tensors, metadata) = weights::read(&path).expect("read");
    assert_eq!(metadata["weights_sha256"], "ab");
    assert_eq!(
        LinearDecoder::of_tensors(&tensors, Z, &path).expect("sound"),
        Some(decoder.clone())
    );
    // Stored as f16.
    let bytes = std::fs::metadata(&path).expect("there").len() as usize;
    assert!(bytes < 2 * (decoder.map.len() + decoder.components.len()) + 2000, "{bytes}");
    // Networks with another z, damaged tensors, no tensors at all.
    assert!(LinearDecoder::of_tensors(&tensors, Z + 1, &path).is_err());
    let changes = [("map", 0), ("components", 1), ("detail", 2), ("map", 3), ("components", 4)];
    for (name, change) in changes {
        let mut damaged = tensors.clone();
        let (_, shape, values) =
            damaged.iter_mut().find(|(own, ..)| own.ends_with(name)).expect("a tensor");
        match change {
            0 => shape[2] += 1,
            1 => shape[3] += 1,
            2 => shape.push(1),
            4 => shape.clear(),
            _ => values[3] = f32::NAN,
        }
        let message =
            LinearDecoder::of_tensors(&damaged, Z, &path).expect_err("damaged").to_string();
        assert!(message.contains(BESIDE), "{message}");
    }
    assert_eq!(LinearDecoder::of_tensors(&Vec::new(), Z, &path).expect("nothing"), None);
}

#[test]
fn a_cached_decoder_is_the_same_and_other_weights_or_data_have_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (images, z) = linear_images(30, 5.0);
    let open = |key: (&str, &str, usize), may_fit: bool| {
        let fit = || {
            if may_fit {
                fit(&z, Z, &images, &recipe(0.0))
            } else {
                Err(Error::failed("fitted again"))
            }
        };
        LinearDecoder::cached(Some(folder.path()), key, Z, fit)
    };
    let made = open(("w", "d", 32), true).expect("a fit");
    assert_eq!(open(("w", "d", 32), false).expect("kept"), made);
    for other in [("v", "d", 32), ("w", "e", 32), ("w", "d", 48)] {
        assert!(open(other, false).is_err(), "{other:?}");
    }
}

#[test]
fn resized_images_and_views_show_the_same_content() {
    let (images, z) = linear_images(50, 5.0);
    let decoder = fit(&z, Z, &images, &recipe(0.0)).expect("a fit");
    let pictures = decoder.mean(&z[..2 * Z]);
    let whole = decoder.at(&pictures, SIDE, None);
    assert!(mean_square(&whole, &pictures) < 1e-4);
    let large = decoder.at(&pictures, 2 * SIDE, None);
    assert_eq!(large.len(), 2 * bytes_of(2 * SIDE));
    // The left half, enlarged: its first pixel is the whole image's, and so is the last of the
    // mirrored half.
    let [half, mirrored] = [1.0f32, -1.0]
        .map(|sign| decoder.at(&pictures, SIDE, Some(&[0.5 * sign, -0.5, 1.0, 0.0].repeat(2))));
    // About one grey level.
    assert!((half[0] - whole[0]).abs() < 0.01 && (mirrored[SIDE - 1] - whole[0]).abs() < 0.01);
    assert!(mean_square(&half, &whole) > 1e-3);
}
