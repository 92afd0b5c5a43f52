//! torchvision's encoders: `soda import --from torchvision`, and `soda export --torchvision`,
//! `--pytorch` and `--onnx`. The files come from tests/reference/torchvision_resnet.py;
//! scripts/python_agreement.py compares the written ones with PyTorch and onnxruntime.

use crate::common::assert_close;
use crate::common::program::{fails, json, soda, succeeds, train};
use burn::tensor::{Device, Tensor, TensorData};
use soda::model::weights::{self, WeightsFile};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torchvision").join(name)
}

fn import(folder: &Path, file: &str, out: &str, more: &[&str]) -> std::process::Output {
    let file = golden(file);
    let args = ["import", "--from", "torchvision", file.to_str().expect("a name"), "--out", out];
    soda(folder, &[&args[..], more].concat())
}

/// Returns the golden images' vectors with the weights `file`, and PyTorch's.
fn vectors(file: &Path, which: &str) -> [Vec<f32>; 2] {
    let (tensors, _) = weights::read(&golden("expected.safetensors")).expect("the golden file");
    let of = |name: &str| tensors.iter().find(|(other, ..)| other == name).expect("there").clone();
    let (_, shape, pixels) = of(&format!("x_{which}"));
    let model = WeightsFile::open(file).expect("weights").model(&Device::flex()).expect("networks");
    let x = Tensor::from_data(TensorData::new(pixels, shape), &Device::flex());
    [model.encode(x).into_data().try_to_vec().expect("f32"), of(which).2]
}

/// The tolerance for PyTorch's f64 results against ours in f32: 1e-5 of the largest value.
const TOLERANCE: (f32, f32) = (1e-5, 0.0);

#[test]
fn pooled_vectors_of_imported_encoders_agree_with_pytorch() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (file, which) in
        [("bare.pth", "small"), ("nested.pth", "small"), ("large.safetensors", "large")]
    {
        let out = succeeds(&import(folder.path(), file, "w.safetensors", &[]));
        assert!(
            out.contains("encoder of base 2 (") && out.contains("no denoiser, z of 16"),
            "{out}"
        );
        let [ours, theirs] = vectors(&at("w.safetensors"), which);
        assert_close(file, &ours, &theirs, TOLERANCE.0, TOLERANCE.1);
        assert!(theirs.iter().any(|v| v.abs() > 0.1));
    }
    let other = import(folder.path(), "bare.pth", "no.safetensors", &["--set", "model.z_dim=8"]);
    fails(&other, 2, &["model.z_dim = 8", "pooled vector of 16 dimensions"]);
    // Negative control: two tensors of the same shape, swapped.
    succeeds(&import(folder.path(), "bare.pth", "w.safetensors", &[]));
    let (mut tensors, metadata) = weights::read(&at("w.safetensors")).expect("tensors");
    let place = |name: &str| tensors.iter().position(|(other, ..)| other == name).expect("there");
    let (a, b) = (place("encoder.blocks.5.norm1.gamma"), place("encoder.blocks.5.norm2.gamma"));
    let gamma = tensors[a].2.clone();
    tensors[a].2 = std::mem::replace(&mut tensors[b].2, gamma);
    weights::write(&at("x.safetensors"), &tensors, metadata).expect("written");
    let [ours, theirs] = vectors(&at("x.safetensors"), "small");
    assert!(
        ours.iter().zip(&theirs).any(|(a, b)| (a - b).abs() > 1e-2),
        "swapped tensors would pass"
    );
}

#[test]
fn an_encoder_alone_works_in_the_feature_commands_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&import(at, "nested.pth", "w.safetensors", &["--json", "i.json"]));
    assert_eq!(json(&at.join("i.json"))["which"], "model");
    let weights = ["--weights", "w.safetensors", "--device", "cpu", "--data", "bundled"];
    let run = |args: &[&str]| soda(at, &[args, &weights].concat());
    let out = succeeds(&run(&["embed", "--split", "test", "--limit", "30", "--out", "z.npy"]));
    assert!(out.contains("30 x 16 features (z)"), "{out}");
    succeeds(&run(&[
        "embed",
        "--split",
        "test",
        "--limit",
        "30",
        "--features",
        "backbone",
        "--out",
        "b.npy",
    ]));
    assert_eq!(
        std::fs::read(at.join("z.npy")).expect("a file"),
        std::fs::read(at.join("b.npy")).expect("a file"),
        "z isn't the pooled vector"
    );
    succeeds(&run(&["probe", "--protocol", "knn", "--split", "selection"]));
    succeeds(&run(&["neighbours", "test:0", "-k", "2"]));
    succeeds(&run(&["map", "--method", "pca", "--limit", "50"]));
    succeeds(&run(&["health"]));
    // Calibrated for larger images, it is still an encoder alone.
    succeeds(&run(&["export", "--set", "data.side=40", "--out", "large.safetensors"]));
    let large = ["--weights", "large.safetensors", "--device", "cpu", "--data", "bundled"];
    let embed = ["embed", "--split", "test", "--limit", "3", "--out", "l.npy"];
    succeeds(&soda(at, &[&embed[..], &large].concat()));
    for args in [
        &["reconstruct", "-n", "2"][..],
        &["diagnose"],
        &["sample", "-n", "2"],
        &["quality"],
        &["probe", "--features", "denoiser:middle@5"],
        &["embed", "--split", "test", "--features", "denoiser:middle@5"],
        &["export", "--web", "p.html"],
    ] {
        fails(
            &run(args),
            2,
            &["an encoder without a denoiser", "embed, probe, neighbours, map and health work"],
        );
    }
    let train = [
        "train",
        "--config",
        "quick",
        "--from",
        "w.safetensors",
        "--device",
        "cpu",
        "--data",
        "bundled",
        "--run",
        "r",
    ];
    fails(&soda(at, &train), 2, &["an encoder without a denoiser"]);
    succeeds(&soda(
        at,
        &[
            "export",
            "--weights",
            "w.safetensors",
            "--half",
            "--device",
            "cpu",
            "--data",
            "bundled",
            "--out",
            "h.safetensors",
        ],
    ));
    succeeds(&soda(
        at,
        &[
            "probe",
            "--weights",
            "h.safetensors",
            "--protocol",
            "knn",
            "--split",
            "selection",
            "--device",
            "cpu",
            "--data",
            "bundled",
        ],
    ));
}

#[test]
fn weights_written_for_pytorch_are_read_back_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    let out = succeeds(&soda(at, &["export", "--run", "r", "--pytorch", "--out", "p.safetensors"]));
    assert!(out.contains("networks in PyTorch's layouts"), "{out}");
    fails(
        &soda(at, &["reconstruct", "--weights", "p.safetensors"]),
        1,
        &["p.safetensors", "layouts of PyTorch", "name the file they were exported from"],
    );
    let (tensors, _) = weights::read(&at.join("p.safetensors")).expect("tensors");
    let shape = |name: &str| {
        tensors
            .iter()
            .find(|(other, ..)| other == name)
            .unwrap_or_else(|| panic!("no {name}"))
            .1
            .clone()
    };
    assert_eq!(shape("encoder.fc.weight"), [8, 32], "inputs before outputs");
    assert_eq!(shape("encoder.layer2.0.downsample.1.running_var"), [8]);
    assert!(!tensors.iter().any(|(name, ..)| name.ends_with("gamma") || name.ends_with("beta")));
    // The encoder is read back by torchvision's names.
    let encoder = tensors.into_iter().filter_map(|(name, shape, values)| {
        Some((name.strip_prefix("encoder.")?.to_owned(), shape, values))
    });
    weights::write(&at.join("e.safetensors"), &encoder.collect(), Default::default())
        .expect("written");
    let mean_std =
        ["--set", "data.mean=[0.4914,0.4822,0.4465]", "--set", "data.std=[0.2023,0.1994,0.2010]"];
    let args = ["import", "--from", "torchvision", "e.safetensors", "--out", "i.safetensors"];
    succeeds(&soda(at, &[&args[..], &mean_std].concat()));
    let embed = |weights: &str, out: &str| {
        let args = [
            "embed",
            "--split",
            "test",
            "--limit",
            "20",
            "--features",
            "backbone",
            "--device",
            "cpu",
            "--data",
            "bundled",
        ];
        succeeds(&soda(at, &[&args[..], &["--weights", weights, "--out", out]].concat()));
        std::fs::read(at.join(out)).expect("a file")
    };
    assert_eq!(
        embed("r/checkpoints/step_2/ema.safetensors", "a.npy"),
        embed("i.safetensors", "b.npy")
    );

    fails(
        &soda(at, &["export", "--run", "r", "--torchvision", "--out", "t.safetensors"]),
        2,
        &["4 channels", "resnet18 has 64", "--pytorch"],
    );
    succeeds(&soda(at, &["export", "--run", "r", "--onnx", "--json", "o.json"]));
    let bytes = std::fs::read(at.join("soda.onnx")).expect("the default name");
    assert_eq!(json(&at.join("o.json"))["bytes"], bytes.len());
    for text in ["BatchNormalization", "GlobalAveragePool", "pixels", "backbone"] {
        assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()), "no {text}");
    }
}
