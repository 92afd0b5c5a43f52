//! The memory of evaluations, apart from the images that they evaluate.

use crate::memory;
use burn::tensor::Device;
use soda::config::{BUILT_IN, Config, ProbeConfig};
use soda::data::inventory::Inventory;
use soda::data::{Dataset, Images, Options, bytes_of};
use soda::eval::features::calibrate;
use soda::eval::method::Method;
use soda::eval::probe::{Protocol, Split, TrainViews};
use soda::model::Soda;
use soda::rng;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// Returns noise images of two classes: every second row is brighter, starting with the first or
/// the second row.
fn images(n: usize, side: usize) -> Images {
    let byte = |i: usize| {
        (rng::mix(i as u64) % 100) as u8 + 60 * ((i / bytes_of(side) + i / side) % 2) as u8
    };
    Images::new(
        side,
        (0..n * bytes_of(side)).map(byte).collect(),
        (0..n).map(|i| (i % 2) as u16).collect(),
    )
}

fn dataset(train: usize, test: usize, side: usize) -> Dataset {
    let (train, test) = (Arc::new(images(train, side)), Arc::new(images(test, side)));
    let (name, origin, sha256) = ("noise".to_owned(), "a test".to_owned(), String::new());
    let (inventory, options) = (Inventory::default(), Options::default());
    let classes = vec!["first".into(), "second".into()];
    Dataset { name, origin, train, test, resampled_from: None, classes, sha256, inventory, options }
}

#[test]
fn a_probe_of_raw_pixels_holds_no_copy_of_them() {
    let _alone = memory::alone();
    let (n, side) = (59_500, 8);
    let data = dataset(n, 500, side);
    let bound = 16 * MIB;
    // Negative control: an f32 copy of the images and mirror images takes far more.
    let (copy, taken) = memory::peak(|| vec![0.5f32; 2 * n * bytes_of(side)]);
    assert!(taken > 5 * bound && copy.len() == 2 * n * bytes_of(side), "{} MiB", taken / MIB);
    drop(copy);
    let config = ProbeConfig { epochs: 1, batch_size: 500, ..ProbeConfig::default() };
    for (method, split) in [
        (Method::Linear, Split::Test),
        (Method::Linear, Split::Selection),
        (Method::LinearFull, Split::Test),
        (Method::Knn, Split::Test),
    ] {
        let standard = Protocol::new(method, split, 1);
        let fractions = if method == Method::Linear { vec![0.5, 1.0] } else { vec![1.0] };
        let views = if method == Method::Linear { TrainViews::Flip } else { TrainViews::Plain };
        let protocol = Protocol { fractions, views, ..standard };
        let (probed, peak) = memory::peak(|| protocol.of_pixels(&data, &config).expect("a score"));
        assert!(probed.point.score.top1 > 99.0, "{method}: {probed:?}");
        assert!(peak < bound, "{method} took {} MiB", peak / MIB);
    }
}

/// Returns the resident bytes of this process; 0 if the system doesn't report them.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()
    });
    kib.unwrap_or(0) << 10
}

#[test]
fn calibrating_an_untrained_encoder_takes_the_memory_of_one_batch() {
    let _alone = memory::alone();
    let set = [
        "model.encoder.base=4",
        "model.unet.base=8",
        "model.unet.multipliers=[1,2]",
        "model.unet.groups=2",
        "model.unet.final_groups=2",
    ];
    let (name, text) =
        BUILT_IN.iter().find(|(name, _)| *name == "configs/quick.toml").expect("a recipe");
    let config = Config::parse(text, name, &set.map(String::from)).expect("a recipe");
    let (data, device) = (dataset(1000, 10, 32), Device::flex());
    let indices: Vec<usize> = (0..1000).collect();
    let calibrated = || {
        calibrate(
            Soda::new(&config.model, 0, &device),
            &data.train,
            &indices,
            &config.data,
            &device,
        )
        .unwrap()
    };
    let before = resident();
    let (_, peak) = memory::peak(calibrated);
    // A feature map of a batch takes 2 MiB, and there are 60 batches.
    assert!(peak < 48 * MIB, "{} MiB", peak / MIB);
    // The allocator must reuse the memory that is returned to it.
    let grown = resident().saturating_sub(before);
    assert!(grown < 100 * MIB, "grew by {} MiB", grown / MIB);
}
