//! Weights of the public PyTorch implementation, and weights for other programs: `soda import`,
//! `soda export`, and one clear error message for each unusable file. The files come from
//! tests/reference/futurexiang.py.

use crate::common::program::{fails, json, soda, succeeds, text, train};
use crate::common::{assert_close, error};
use burn::tensor::{Device, Tensor, TensorData};
use soda::model::Soda;
use soda::model::weights::{self, Tensors, WeightsFile};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Runs `soda import` of `file` in `folder`, with 2 groups: the network is too narrow for that
/// code's 32.
fn import(folder: &Path, file: &Path, more: &[&str]) -> Output {
    let file = file.to_str().expect("a name");
    let groups = ["--set", "model.unet.groups=2", "--set", "model.unet.final_groups=2"];
    soda(folder, &[&["import", "--from", "futurexiang", file][..], &groups, more].concat())
}

fn folder_with_weights() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(&import(
        folder.path(),
        &golden("futurexiang.pth"),
        &["--out", "w.safetensors", "--json", "i.json"],
    ));
    folder
}

struct Expected(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Expected {
    fn read() -> Self {
        let (tensors, _) =
            weights::read(&golden("futurexiang.safetensors")).expect("the golden file");
        Self(tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect())
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = &self.0[name];
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    /// Returns z and eps for the golden inputs.
    fn outputs(&self, model: &Soda, device: &Device) -> [Vec<f32>; 2] {
        let z = model.encode(self.tensor("x_source", device));
        let ones = Tensor::ones([z.dims()[0], 1], device);
        let eps = model.predict(
            self.tensor("x_t", device),
            self.tensor("t", device),
            z.clone(),
            ones,
            None,
            None,
        );
        [z.into_data(), eps.into_data()].map(|data| data.try_to_vec().expect("f32"))
    }
}

/// The tolerance for PyTorch's f64 results against ours in f32: 1e-4 of the largest value, and no
/// absolute one, since the largest |z| and |eps| are near 3.
const TOLERANCE: (f32, f32) = (1e-4, 0.0);

#[test]
fn z_and_eps_of_imported_weights_agree_with_pytorch() {
    let (folder, device, expected) = (folder_with_weights(), Device::flex(), Expected::read());
    let open = |name: &str| {
        WeightsFile::open(&folder.path().join(name))
            .expect("weights")
            .model(&device)
            .expect("networks")
    };
    let (relative, absolute) = TOLERANCE;
    let [z, eps] = expected.outputs(&open("w.safetensors"), &device);
    assert_close("z", &z, expected.values("z"), relative, absolute);
    assert_close("eps", &eps, expected.values("eps"), relative, absolute);

    let more = ["--which", "model", "--out", "m.safetensors"];
    succeeds(&import(folder.path(), &golden("futurexiang.pth"), &more));
    let [z_model, eps_model] = expected.outputs(&open("m.safetensors"), &device);
    assert_close("z of MODEL", &z_model, expected.values("z_model"), relative, absolute);
    assert_close("eps of MODEL", &eps_model, expected.values("eps_model"), relative, absolute);

    // Negative controls: the other weights, the other convention for scales, the other time scale.
    assert!(
        error(&z_model, &z, relative, absolute) > 100.0
            && error(&eps_model, &eps, relative, absolute) > 100.0
    );
    for set in ["model.unet.ada_gn=one_plus", "model.unet.time_scale=1000.0"] {
        succeeds(&import(
            folder.path(),
            &golden("futurexiang.pth"),
            &["--set", set, "--out", "wrong.safetensors"],
        ));
        let [_, wrong] = expected.outputs(&open("wrong.safetensors"), &device);
        assert!(error(&wrong, &eps, relative, absolute) > 100.0, "{set} would pass");
    }
}

/// Swaps each pair of tensors of the same shape: mixed-up names would be detected.
#[test]
fn swapped_tensors_would_be_detected() {
    let (folder, device, expected) = (folder_with_weights(), Device::flex(), Expected::read());
    let path = folder.path().join("w.safetensors");
    let file = WeightsFile::open(&path).expect("weights");
    let (mut tensors, _) = weights::read(&path).expect("tensors");
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut seen = HashMap::new();
    let mut pairs = Vec::new();
    for (i, (name, shape, _)) in tensors.iter().enumerate() {
        // For each network: a swap in the encoder shows in z.
        let last = seen.insert((name.split('.').next().expect("a network"), shape.clone()), i);
        pairs.extend(last.map(|last| (last, i)));
    }
    assert!(pairs.len() > 100);
    for (a, b) in pairs {
        let mut exchanged: Tensors = tensors.clone();
        let (first, second) = exchanged.split_at_mut(b);
        std::mem::swap(&mut first[a].2, &mut second[0].2);
        let exchanged =
            exchanged.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        let blank = Soda::new(&file.config.model, 1, &device);
        let [z, eps] = expected
            .outputs(&weights::load(blank, &exchanged, "exchanged").expect("networks"), &device);
        let (relative, absolute) = TOLERANCE;
        let errors = [
            error(&z, expected.values("z"), relative, absolute),
            error(&eps, expected.values("eps"), relative, absolute),
        ];
        let wrong = if tensors[a].0.starts_with("encoder.") { errors[0] } else { errors[1] };
        assert!(wrong > 1.0, "{} and {} swapped would pass", tensors[a].0, tensors[b].0);
    }
}

#[test]
fn imported_weights_state_their_origin_and_work_in_other_commands() {
    let folder = folder_with_weights();
    let at = folder.path();
    let report = json(&at.join("i.json"));
    assert_eq!((&report["which"], &report["model"]["z_dim"]), (&"ema".into(), &6.into()));
    assert_eq!(report["model"]["unet"]["multipliers"], serde_json::json!([1, 2, 2]));
    let file = WeightsFile::open(&at.join("w.safetensors")).expect("weights");
    assert_eq!(
        file.metadata["imported_sha256"],
        report["checkpoint"]["sha256"].as_str().expect("a digest")
    );
    assert_eq!(file.config.data.std, [0.2023, 0.1994, 0.2010]);
    assert_eq!((file.config.model.unet.time_scale, file.trained()), (1.0, None));

    let weights = ["--weights", "w.safetensors", "--device", "cpu"];
    let draw = ["reconstruct", "-n", "2", "--steps", "2", "--out", "r.png", "--json", "r.json"];
    succeeds(&soda(at, &[&draw[..], &weights].concat()));
    assert!(json(&at.join("r.json"))["psnr"].as_f64().is_some_and(f64::is_finite));
    let probe = ["probe", "--seeds", "1", "--split", "selection", "--json", "p.json"];
    succeeds(&soda(at, &[&probe[..], &weights].concat()));
    assert!(
        json(&at.join("p.json"))["top1"].as_f64().is_some_and(|top1| (0.0..=100.0).contains(&top1))
    );
}

#[test]
fn exported_weights_carry_their_training_and_may_be_half_as_long() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r", "--json", "t.json"]));
    let out = succeeds(&soda(
        at,
        &["export", "--run", "r", "--out", "new/e.safetensors", "--json", "e.json"],
    ));
    assert!(out.contains("trained for 2 steps (16 images seen) on data with checksum"), "{out}");
    let source = at.join("r/checkpoints/step_2/ema.safetensors");
    let (old, new) = (
        WeightsFile::open(&source).expect("weights"),
        WeightsFile::open(&at.join("new/e.safetensors")).expect("weights"),
    );
    let trained = new.trained().expect("recorded");
    assert_eq!((trained.step, trained.images), (2, 16));
    assert_eq!(
        trained.data_sha256,
        json(&at.join("t.json"))["data"]["sha256"].as_str().expect("a digest")
    );
    assert_eq!((old.trained(), &old.config), (Some(trained), &new.config));
    assert_eq!(new.metadata["soda"], env!("CARGO_PKG_VERSION"));
    let sorted = |path: &Path| {
        let (mut tensors, _) = weights::read(path).expect("tensors");
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    assert_eq!(sorted(&source), sorted(&at.join("new/e.safetensors")));

    let half = [
        "export",
        "--run",
        "r",
        "--out",
        "h.safetensors",
        "--half",
        "--device",
        "cpu",
        "--json",
        "h.json",
    ];
    let out = succeeds(&soda(at, &half));
    assert!(out.contains("of the largest |z|"), "{out}");
    let report = json(&at.join("h.json"));
    let difference = report["z_difference"].as_f64().expect("a number");
    // A value in f16 has a relative error of at most 2^-11.
    assert!(difference > 1e-6 && difference < 1e-2, "{difference}");
    let length = |name: &str| std::fs::metadata(at.join(name)).expect("a file").len();
    assert_eq!(report["bytes"], length("h.safetensors"));
    assert!(length("h.safetensors") < length("new/e.safetensors") * 7 / 10);
    assert_ne!(sorted(&source), sorted(&at.join("h.safetensors")));
    let draw = [
        "reconstruct",
        "--weights",
        "h.safetensors",
        "--device",
        "cpu",
        "-n",
        "1",
        "--out",
        "h.png",
    ];
    succeeds(&soda(at, &draw));
    // The same bytes every time, and from an f16 file too.
    let before = std::fs::read(at.join("h.safetensors")).expect("a file");
    succeeds(&soda(
        at,
        &[
            "export",
            "--weights",
            "h.safetensors",
            "--out",
            "again.safetensors",
            "--half",
            "--device",
            "cpu",
        ],
    ));
    assert_eq!(std::fs::read(at.join("again.safetensors")).expect("a file"), before);
}

/// Weights from older versions: they have a recipe, but the training is recorded only next to them
/// in the checkpoint.
#[test]
fn older_weights_remain_readable() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    let path = at.join("r/checkpoints/step_2/ema.safetensors");
    let (tensors, mut metadata) = weights::read(&path).expect("weights");
    metadata.retain(|key, _| key == "config" || key == "soda");
    weights::write(&path, &tensors, metadata.clone()).expect("written");
    // Without the checksums next to them.
    std::fs::remove_file(path.with_file_name("COMPLETE")).expect("there");
    weights::write(&at.join("alone.safetensors"), &tensors, metadata).expect("written");
    let out = succeeds(&soda(
        at,
        &["export", "--weights", "r/checkpoints/step_2/ema.safetensors", "--out", "e.safetensors"],
    ));
    assert!(out.contains("trained for 2 steps (16 images seen) on data with checksum"), "{out}");
    let out = succeeds(&soda(
        at,
        &["export", "--weights", "alone.safetensors", "--out", "f.safetensors", "--json", "f.json"],
    ));
    for from in ["torchvision", "futurexiang"] {
        fails(
            &soda(at, &["import", "--from", from, "e.safetensors"]),
            2,
            &["e.safetensors holds weights of this program", "--weights e.safetensors"],
        );
    }
    assert!(out.contains("not recorded") && json(&at.join("f.json"))["trained"].is_null(), "{out}");
}

#[test]
fn a_pickle_that_would_run_code_is_refused_and_not_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = import(folder.path(), &golden("runs_code.pth"), &[]);
    fails(&output, 1, &["runs_code.pth", "posix.system", "nothing was run"]);
    // Python creates this file when it loads the pickle; the script that wrote the pickle checked.
    assert!(!folder.path().join("soda-import-ran-this").exists());
    assert!(!folder.path().join("weights.safetensors").exists());
}

#[test]
fn checkpoints_of_other_networks_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    fails(
        &import(at, &golden("another_network.pth"), &[]),
        1,
        &["no EMA", "choose --which model", "epoch, state_dict"],
    );
    fails(
        &import(at, &golden("another_network.pth"), &["--which", "model"]),
        1,
        &["there is no encoder.encoder.0.weight"],
    );
    let ours = golden("futurexiang.pth");
    let changed = |set: &str| import(at, &ours, &["--set", set]);
    fails(&changed("model.z_dim=7"), 1, &["EMA", "has shape [6, 32], expected [7, 32]"]);
    fails(&changed("model.unet.blocks=3"), 1, &["EMA", "decoder.down.", "missing"]);
    fails(
        &changed("model.unet.attention=[]"),
        1,
        &["EMA", "decoder.down.3.attn.", "more are unknown"],
    );
    fails(&changed("model.unet.width=3"), 2, &["width"]);
    // 32 groups don't divide 4 channels.
    let plain = soda(at, &["import", "--from", "futurexiang", ours.to_str().expect("a name")]);
    fails(&plain, 2, &["futurexiang.pth", "model.unet.groups = 32", "--set"]);
    assert_eq!(soda(at, &["import", "--from", "elsewhere", "x.pth"]).status.code(), Some(2));
    assert_eq!(
        std::fs::read_dir(at).expect("a folder").count(),
        0,
        "a refused import leaves nothing behind"
    );
}

#[test]
fn damaged_checkpoints_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let whole = std::fs::read(golden("futurexiang.pth")).expect("a file");
    let import = |name: &str, bytes: &[u8]| {
        std::fs::write(at.join(name), bytes).expect("written");
        import(at, Path::new(name), &["--which", "model"])
    };
    fails(&import("half.pth", &whole[..whole.len() / 2]), 1, &["half.pth", "truncated"]);
    fails(&import("nearly.pth", &whole[..whole.len() - 1]), 1, &["nearly.pth", "truncated"]);
    fails(&import("empty.pth", b""), 1, &["empty.pth", "is empty"]);
    fails(&import("text.pth", b"<html>404</html>"), 1, &["text.pth", "is a web page"]);
    fails(
        &import("notes.pth", b"weights: see the other folder"),
        1,
        &["notes.pth", "is not a PyTorch checkpoint"],
    );
    let mut damaged = whole.clone();
    // In the middle of the values: MODEL's fill the first half of the file.
    let place = whole.len() / 4;
    damaged[place..place + 2048].fill(0x55);
    fails(&import("damaged.pth", &damaged), 1, &["damaged.pth", "is damaged"]);
    std::fs::remove_file(at.join("half.pth")).expect("removed");
    let gone = soda(at, &["import", "--from", "futurexiang", "half.pth"]);
    fails(&gone, 1, &["half.pth", "check the path"]);
}

#[test]
fn safetensors_files_with_false_headers_are_refused() {
    let folder = folder_with_weights();
    let at = folder.path();
    let whole = std::fs::read(at.join("w.safetensors")).expect("a file");
    let export = |name: &str, bytes: &[u8]| {
        std::fs::write(at.join(name), bytes).expect("written");
        soda(at, &["export", "--weights", name, "--out", "out.safetensors"])
    };
    let unusable = |name: &str, bytes: &[u8], part: &str| {
        fails(&export(name, bytes), 1, &[name, "not a usable safetensors file", part])
    };
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        unusable("cut.safetensors", &whole[..length], "");
    }
    let with_header = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    unusable(
        "long.safetensors",
        &[&u64::MAX.to_le_bytes()[..], &whole[8..]].concat(),
        "header too large",
    );
    unusable(
        "header.safetensors",
        &[&90_000_000u64.to_le_bytes()[..], &whole[8..]].concat(),
        "header",
    );
    let one = |dtype: &str, shape: &str, from: usize, to: usize| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let two = |a: &str, b: &str| format!(r#"{{"a":{a},"b":{b}}}"#);
    let overlapping = two(&one("F32", "[2]", 0, 8), &one("F32", "[2]", 4, 12));
    unusable("overlap.safetensors", &with_header(&overlapping, 12), "invalid offset");
    let beyond = two(&one("F32", "[2]", 0, 8), &one("F32", "[200]", 8, 808));
    unusable("beyond.safetensors", &with_header(&beyond, 16), "");
    let huge = two(&one("F32", "[2]", 0, 8), &one("F32", "[4294967296,4294967296]", 8, 16));
    unusable("huge.safetensors", &with_header(&huge, 16), "");
    let whole_numbers = two(&one("F32", "[2]", 0, 8), &one("I64", "[1]", 8, 16));
    unusable(
        "dtype.safetensors",
        &with_header(&whole_numbers, 16),
        "b is I64, expected F32 or F16",
    );
    let foreign = two(&one("F32", "[2]", 0, 8), &one("F32", "[2]", 8, 16));
    fails(
        &export("foreign.safetensors", &with_header(&foreign, 16)),
        1,
        &["foreign.safetensors", "no recipe"],
    );
    assert!(!at.join("out.safetensors").exists());
}

#[test]
fn output_paths_are_created_or_refused_before_the_work() {
    let folder = folder_with_weights();
    let at = folder.path();
    let ours = golden("futurexiang.pth");
    succeeds(&import(at, &ours, &["--out", "a/b/w.safetensors"]));
    assert!(at.join("a/b/w.safetensors").exists());
    fails(&import(at, &ours, &["--out", "a/b"]), 2, &["a/b", "folder"]);
    fails(&import(at, &ours, &["--out", "w.safetensors/x.safetensors"]), 1, &["w.safetensors"]);
    let export = |out: &str| soda(at, &["export", "--weights", "w.safetensors", "--out", out]);
    succeeds(&export("c/d/w.safetensors"));
    fails(&export("a/b"), 2, &["a/b", "folder"]);
    fails(&export("./w.safetensors"), 2, &["--out", "another word of the command names this file"]);
    fails(&export("w.safetensors/x.safetensors"), 1, &["w.safetensors"]);
    // The ending is that of the format, and nothing is created where it isn't.
    let wrong = soda(at, &["export", "--weights", "w.safetensors", "--onnx", "--out", "n/e.txt"]);
    fails(&wrong, 2, &["--out n/e.txt", "must end in .onnx", "n/e.onnx"]);
    fails(&export("n/e.txt"), 2, &["--out n/e.txt", "must end in .safetensors"]);
    fails(&import(at, &ours, &["--out", "n/e.txt"]), 2, &["must end in .safetensors"]);
    assert!(!at.join("n").exists());
    let message = text(&soda(at, &["export", "--weights", "gone.safetensors"]).stderr);
    assert!(message.contains("gone.safetensors"), "{message}");
}
