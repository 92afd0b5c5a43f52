//! Tests of the programs in examples/, which show how to use the library. `cargo test` builds them.

use crate::common::program::succeeds;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the example `name` in the folder `at`.
fn example(at: &Path, name: &str, args: &[&str]) -> Output {
    let built = Path::new(env!("CARGO_BIN_EXE_soda")).with_file_name("examples");
    let program: PathBuf = built.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "build the examples first: cargo build --release --examples");
    Command::new(program).args(args).current_dir(at).output().expect("it starts")
}

#[test]
fn the_examples_do_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let photos = at.join("photos");
    std::fs::create_dir(&photos).expect("writable");
    for i in 0..12 {
        let image = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 20 * i]));
        image.save(photos.join(format!("{i}.png"))).expect("writable");
    }

    let out = succeeds(&example(at, "embed_folder", &["photos", "z.npz"]));
    assert!(out.contains("z of 12 images, 128 values each"), "{out}");
    assert!(at.join("z.npz").metadata().expect("written").len() > 12 * 128 * 4);

    let out = succeeds(&example(at, "reconstruct", &["r.png"]));
    let number = |word: &str| {
        let (_, rest) = out.split_once(word).expect("it is printed");
        let digits = rest.trim_start().split([' ', '\n']).next().expect("a number");
        digits.parse::<f64>().expect("a number")
    };
    // Pure noise in place of the image would give 10 dB and an SSIM of 0.02.
    assert!(number("PSNR") > 12.0 && number("SSIM") > 0.1, "{out}");
    assert!(image::open(at.join("r.png")).is_ok());

    let out = succeeds(&example(at, "train_step", &[]));
    let losses: Vec<f64> =
        out.lines().filter_map(|line| line.split("loss ").nth(1)?.parse().ok()).collect();
    // An untrained network predicts 0, so the loss starts at the variance of the noise.
    assert!(losses.len() == 3 && losses.iter().all(|loss| (0.3..2.0).contains(loss)), "{out}");

    for device in ["cpu", "vulkan"] {
        let out = succeeds(&example(at, "custom_kernel", &[device]));
        assert!(out.contains("largest difference"), "{out}");
    }
}
