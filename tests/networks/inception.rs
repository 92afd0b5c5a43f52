//! pytorch-fid's Inception-v3, with weights from a formula; tests/reference/inception.py makes the
//! same ones.

use crate::common::assert_close;
use burn::tensor::Device;
use soda::data::Images;
use soda::eval::frechet::{frechet_of_many, inception_score, kid, scores};
use soda::eval::inception::{FEATURES, Inception, Looked, shapes};
use soda::model::weights::{self, Tensors};
use std::collections::HashMap;
use std::path::Path;

/// Returns values in [-1, 1) derived from a tensor's name: a counter through murmur3's finaliser.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(2_166_136_261_u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    let number = |i: usize| {
        let mut x = (i as u32).wrapping_mul(0x9e37_79b9).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        x ^= x >> 16;
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// Returns the whole state dictionary.
fn state() -> Tensors {
    let mut all = Tensors::new();
    let mut add = |name: String, shape: Vec<usize>, finish: &dyn Fn(f32) -> f32| {
        let values = numbers(&name, shape.iter().product()).into_iter().map(finish).collect();
        all.push((name, shape, values));
    };
    for (name, shape) in shapes() {
        let (out, each) = (shape[0], shape[1..].iter().product::<usize>());
        let scale = (6.0 / each as f64).sqrt() as f32;
        add(format!("{name}.conv.weight"), shape, &|v| v * scale);
        add(format!("{name}.bn.weight"), vec![out], &|v| 1.0 + v * 0.3);
        add(format!("{name}.bn.running_var"), vec![out], &|v| 1.0 + v * 0.5);
        add(format!("{name}.bn.bias"), vec![out], &|v| v * 0.2);
        add(format!("{name}.bn.running_mean"), vec![out], &|v| v * 0.2);
    }
    add("fc.weight".into(), vec![1008, FEATURES], &|v| v * 0.2);
    all
}

#[test]
fn features_and_scores_are_those_of_pytorch_fid() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("inception.safetensors");
    let state = state();
    weights::write(&path, &state, HashMap::new()).expect("written");
    let network = Inception::open(&path, &Device::flex()).expect("its weights");
    assert!(!network.is_published(), "its digest is a different one");

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inception.safetensors");
    let (golden, _) = weights::read(&golden).expect("the golden file");
    let of = |name: &str| golden.iter().find(|(other, ..)| other == name).expect("there").2.clone();
    let pixels = of("images").into_iter().map(|v| v as u8).collect();
    let images = Images::new(32, pixels, vec![0; 16]);
    let looked = network.look(&images).expect("looks");
    // f32 sums of thousands of terms, against f64; the documented bound is 1e-3 of the largest
    // value.
    assert_close("features", &looked.features, &of("features"), 1e-4, 0.0);
    assert_close("logits", &looked.logits, &of("logits"), 1e-4, 0.0);

    let half = |from: usize| Looked {
        features: looked.features[from * FEATURES..][..8 * FEATURES].to_vec(),
        logits: looked.logits[from * 1008..][..8 * 1008].to_vec(),
    };
    let (a, b) = (half(0), half(8));
    let expected = of("scores");
    let close = |what: &str, ours: f64, theirs: f32| {
        assert!(
            (ours - f64::from(theirs)).abs() < 1e-3 * f64::from(theirs).abs(),
            "{what}: {ours} instead of {theirs}"
        );
    };
    close(
        "Frechet distance",
        frechet_of_many(&a.features, &b.features, FEATURES).expect("finite"),
        expected[0],
    );
    close("KID", kid(&a.features, &b.features, FEATURES), expected[1]);
    close("Inception score", inception_score(&looked), expected[2]);
    let all = scores(&a, &b).expect("scores");
    assert!(all.precision < 50.0 && all.recall < 50.0, "{all:?}");
    let same = scores(&a, &a).expect("scores");
    assert!(
        same.frechet < 1e-6 * f64::from(expected[0])
            && same.precision == 100.0
            && same.recall == 100.0,
        "{same:?}"
    );

    // Negative control: one layer with another's weights.
    let mut other = state;
    let place = |name: &str| other.iter().position(|(own, ..)| own == name).expect("there");
    let (row, column) =
        (place("Mixed_6c.branch7x7_2.conv.weight"), place("Mixed_6d.branch7x7_2.conv.weight"));
    let values = other[row].2.clone();
    other[row].2 = std::mem::replace(&mut other[column].2, values);
    weights::write(&path, &other, HashMap::new()).expect("written");
    let few = images.select(&[0]);
    let wrong =
        Inception::open(&path, &Device::flex()).expect("its weights").look(&few).expect("looks");
    let largest = looked.features.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let apart =
        wrong.features.iter().zip(&looked.features).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(apart > 1e-2 * largest, "{apart} of {largest}");

    // A network with a missing tensor.
    other.retain(|(name, ..)| name != "Mixed_7c.branch_pool.bn.bias");
    weights::write(&path, &other, HashMap::new()).expect("written");
    let message = Inception::open(&path, &Device::flex()).err().expect("refused").to_string();
    assert!(
        message.contains("Mixed_7c.branch_pool.bn.bias isn't there")
            && message.contains("6726825d"),
        "{message}"
    );
}

/// Measures the time and memory for the scores of 10,000 images, without the network's passes. Run
/// by hand.
#[test]
#[ignore = "a measurement"]
fn measure_scores_of_ten_thousand_images() {
    let looked = |name: &str| Looked {
        features: numbers(name, 10_000 * FEATURES).into_iter().map(|v| v.abs()).collect(),
        logits: numbers(name, 10_000 * 1008),
    };
    let (a, b) = (looked("a"), looked("b"));
    let clock = std::time::Instant::now();
    let found = scores(&a, &b).expect("scores");
    println!(
        "{found:?} in {:.1} s, at most {:?} MiB",
        clock.elapsed().as_secs_f64(),
        soda::machine::peak_resident_mib()
    );
}
