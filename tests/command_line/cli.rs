//! The command line as a user sees it: what works, and one clear error message for each mistake.

use crate::common::program::{fails, json, program, soda, succeeds, text, train};
use std::process::{Command, Stdio};

#[test]
fn train_probe_and_reconstruct_work_from_a_run_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let out = succeeds(&train(at, &["--run", "r", "--json", "train.json"]));
    assert!(out.contains("2 steps"), "{out}");
    let report = json(&at.join("train.json"));
    assert_eq!(report["command"], "train");
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["steps"], 2);
    assert!(report["images_per_s"].as_f64().expect("a number") > 0.0);
    assert_eq!(report["data"]["name"], "CIFAR-10 subset");
    for file in [
        "config.toml",
        "metrics.jsonl",
        "loss.png",
        "samples/step_2.png",
        "checkpoints/step_2/COMPLETE",
    ] {
        assert!(at.join("r").join(file).exists(), "{file}");
    }

    let out = soda(at, &["train", "--device", "cpu", "--run", "r", "--resume"]);
    assert!(succeeds(&out).contains("finished at step 2"));
    let other =
        ["train", "--device", "cpu", "--run", "r", "--resume", "--config", "configs/report.toml"];
    fails(
        &soda(at, &other),
        2,
        &["r has its own recipe", "[model]", "model.encoder.base: 4 -> 64"],
    );

    let probe = [
        "probe",
        "--device",
        "cpu",
        "--run",
        "r",
        "--baselines",
        "--split",
        "selection",
        "--json",
        "probe.json",
    ];
    assert!(succeeds(&soda(at, &probe)).contains("untrained encoder"));
    let report = json(&at.join("probe.json"));
    assert_eq!((&report["n_train"], &report["n_test"]), (&4500.into(), &500.into()));
    assert_eq!(report["protocol"], "linear");
    for score in [&report["top1"], &report["baselines"]["pixels"]["top3"]] {
        assert!((0.0..=100.0).contains(&score.as_f64().expect("a number")));
    }
    assert_eq!(report["weights"]["sha256"].as_str().expect("a digest").len(), 64);

    let out = soda(
        at,
        &[
            "reconstruct",
            "--device",
            "cpu",
            "--run",
            "r",
            "-n",
            "12",
            "--out",
            "p.png",
            "--json",
            "p.json",
        ],
    );
    succeeds(&out);
    assert_eq!(json(&at.join("p.json"))["n"], 12);
    let size = image::image_dimensions(at.join("p.png")).expect("a PNG");
    assert!(size.0 > 640 && size.1 > 256, "{size:?}");
}

#[test]
fn trains_on_a_graphics_adapter() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = train(
        folder.path(),
        &["--run", "r", "--device", "wgpu", "--json", "t.json", "--set", "train.steps=1"],
    );
    succeeds(&out);
    assert_ne!(json(&folder.path().join("t.json"))["device"], "cpu");
}

#[test]
fn selftest_passes_for_every_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    let out =
        succeeds(&soda(folder.path(), &["selftest", "--device", "wgpu", "--json", "self.json"]));
    assert!(out.contains("cases passed") && !out.contains("FAIL"), "{out}");
    assert!(
        out.lines()
            .filter(|line| line.contains(" ok, ") && line.contains(" % of tolerance ("))
            .count()
            >= 50,
        "{out}"
    );
    let json = json(&folder.path().join("self.json"));
    assert_eq!(json["passed"], true);
    assert!(json["cases"].as_array().is_some_and(|cases| cases.len() >= 50), "{json}");
    assert!(json["flops"].as_f64().is_some_and(|flops| flops > 1e6), "{json}");
}

#[test]
fn dry_run_prints_the_resolved_recipe_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = succeeds(&train(folder.path(), &["--dry-run", "--set", "train.lr=5e-5"]));
    assert!(out.contains("lr = 0.00005") || out.contains("lr = 5e-5"), "{out}");
    assert!(!folder.path().join("runs").exists());
    // As JSON, with the rate of a timed step.
    let mut args = vec!["--dry-run", "--json", "dry.json", "--device", "cpu"];
    args.extend(["--set", "train.lr=5e-5"]);
    succeeds(&train(folder.path(), &args));
    let written = json(&folder.path().join("dry.json"));
    assert_eq!(
        (&written["recipe"]["train"]["lr"], &written["dry_run"]),
        (&5e-5.into(), &true.into())
    );
    assert!(written["images_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{written}");
    // What training refuses.
    fails(&train(folder.path(), &["--dry-run", "--shares", "2,1"]), 2, &["--shares and --wire"]);
}

#[test]
fn devices_lists_the_cpu_and_the_choice_of_auto() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = succeeds(&soda(folder.path(), &["devices", "--json", "d.json"]));
    assert!(out.contains("cpu") && out.contains("auto takes"), "{out}");
    let written = json(&folder.path().join("d.json"));
    assert!(written["adapters"].is_array());
    assert!(written["expected"]["cpu"]["images_per_s"].as_f64().is_some_and(|rate| rate > 0.1));
}

#[test]
fn variables_that_hide_every_adapter_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let hiding = |args: &[&str]| {
        let mut command = program(folder.path());
        command.args(args).env("WGPU_ADAPTER_NAME", "no such card").output().expect("it starts")
    };
    let out = succeeds(&hiding(&["devices"]));
    let names = "WGPU_ADAPTER_NAME=no such card in the environment hides every adapter";
    assert!(out.contains(names), "{out}");
    fails(&hiding(&["selftest", "--device", "vulkan"]), 2, &["--device: there is no", names]);
}

#[test]
fn completions_and_manual_pages_cover_the_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeeds(&soda(folder.path(), &["completions", shell]));
        assert!(script.contains("quickstart") && script.contains("reconstruct"), "{shell}");
    }
    succeeds(&soda(folder.path(), &["man", "pages"]));
    let page = std::fs::read_to_string(folder.path().join("pages/soda-train.1")).expect("written");
    assert!(page.contains("max\\-minutes") || page.contains("max-minutes"), "{page}");
    assert!(folder.path().join("pages/soda-data-fetch.1").exists());
    assert!(!folder.path().join("pages/soda-shaders.1").exists(), "hidden commands have no page");
    let help = succeeds(&soda(folder.path(), &["--help"]));
    assert!(help.contains("Write the manual pages"), "{help}");
    let help = succeeds(&soda(folder.path(), &["data", "--help"]));
    assert!(!help.contains("bundled subset from"), "a developer's command is listed: {help}");
}

#[test]
fn fails_for_unknown_configuration_key() {
    let folder = tempfile::tempdir().expect("a folder");
    fails(
        &train(folder.path(), &["--set", "train.learning_rate=1"]),
        2,
        &["quick.toml", "learning_rate"],
    );
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn fails_for_wrong_type_and_impossible_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, &[&str]); 10] = [
        ("probe.batch_size=1", &["probe.batch_size = 1", "at least 2"]),
        ("probe.lr=inf", &["probe.lr"]),
        ("model.z_dim=4000000000000", &["model.z_dim = 4000000000000", "between 1 and"]),
        ("train.batch_size=many", &["batch_size", "many"]),
        ("train.batch_size=0", &["train.batch_size = 0"]),
        ("model.unet.groups=3", &["model.unet.groups = 3", "divisor"]),
        ("train.z_drop=1.5", &["train.z_drop = 1.5", "probability"]),
        ("sample.steps=5000", &["sample.steps = 5000", "diffusion.steps"]),
        ("train.batch_size=100000", &["train.batch_size = 100000", "5,000 images"]),
        ("nonsense", &["--set nonsense", "key=value"]),
    ];
    for (set, parts) in cases {
        fails(&train(folder.path(), &["--set", set]), 2, parts);
    }
    assert!(!folder.path().join("runs").exists(), "a refused recipe leaves nothing behind");
}

#[test]
fn built_in_recipes_work_without_the_source_tree() {
    let folder = tempfile::tempdir().expect("a folder");
    for recipe in ["configs/quick.toml", "configs/report.toml", "configs/cifar10.toml"] {
        // Small networks, since a dry run tries a step.
        let small = ["train.batch_size=4", "model.encoder.base=4", "model.unet.base=32"]
            .map(|set| ["--set", set])
            .concat();
        let out = soda(
            folder.path(),
            &[&["train", "--dry-run", "--device", "cpu", "--config", recipe], &small[..]].concat(),
        );
        assert!(succeeds(&out).contains("[model.unet]"), "{recipe}");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_not_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_soda"))
        .args(["train", "--dry-run"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn fails_for_missing_recipe() {
    let folder = tempfile::tempdir().expect("a folder");
    fails(
        &soda(folder.path(), &["train", "--config", "nowhere.toml"]),
        1,
        &["nowhere.toml", "check the path"],
    );
}

#[test]
fn fails_for_no_such_device() {
    let folder = tempfile::tempdir().expect("a folder");
    fails(
        &train(folder.path(), &["--device", "tpu"]),
        2,
        &["--device: unknown device \"tpu\"", "soda devices"],
    );
    fails(
        &train(folder.path(), &["--device", "vulkan:17"]),
        2,
        &["--device: there is no device \"vulkan:17\""],
    );
}

#[test]
fn fails_for_unwritable_run_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "in the way").expect("writable");
    fails(&train(folder.path(), &["--run", "file/run"]), 1, &["file/run"]);
}

#[test]
fn fails_for_missing_and_damaged_data() {
    let folder = tempfile::tempdir().expect("a folder");
    fails(&train(folder.path(), &["--data", "nowhere"]), 1, &["nowhere", "soda data fetch"]);
    let data = folder.path().join("d/cifar-10-batches-bin");
    std::fs::create_dir_all(&data).expect("writable");
    std::fs::write(data.join("data_batch_1.bin"), vec![0; 1000]).expect("writable");
    fails(&train(folder.path(), &["--data", "d"]), 1, &["data_batch_1.bin", "1000"]);
    fails(
        &soda(folder.path(), &["data", "verify", "--data", "d"]),
        1,
        &["data_batch_1.bin", "test_batch.bin"],
    );
}

#[test]
fn fails_for_files_that_are_not_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    fails(&soda(at, &["probe", "--weights", "gone.safetensors"]), 1, &["gone.safetensors"]);
    std::fs::write(at.join("w.safetensors"), b"not weights at all").expect("writable");
    fails(
        &soda(at, &["reconstruct", "--weights", "w.safetensors"]),
        1,
        &["w.safetensors is not a weights file (safetensors)", "name a file"],
    );
    fails(&soda(at, &["probe", "--weights", "latest"]), 2, &["latest", "soda train"]);
    for line in ["probe", "replay", "report"] {
        fails(
            &soda(at, &[line, "--run", "gone"]),
            2,
            &["gone does not exist; name a run directory"],
        );
        fails(&soda(at, &[line, "--run", "."]), 2, &["holds no run", "config.toml"]);
    }
    fails(&soda(at, &["probe", "--weights", "."]), 2, &["--weights .", "a folder", "--run"]);
    fails(&soda(at, &["runs", "w.safetensors"]), 2, &["w.safetensors is not a folder"]);
}

#[test]
fn fails_for_impossible_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(&train(at, &["--run", "r"]));
    fails(
        &soda(at, &["reconstruct", "--run", "r", "-n", "0"]),
        2,
        &["-n 0", "between 1 and 1,000"],
    );
    fails(&soda(at, &["reconstruct", "--run", "r", "--steps", "0"]), 2, &["--steps 0"]);
    for (line, parts) in [
        ("replay --run r --step 0", ["--step", "must be at least 1"]),
        ("sample --run r -n 0", ["-n", "must be between 1 and 10,000"]),
        ("sample --run r -n 1e3", ["-n", "must be a whole number between 1 and 10,000"]),
        ("sample --run r --seed -1", ["--seed", "must be at least 0"]),
        ("sample --run r --temperature -1", ["--temperature -1", "between 0 and 100"]),
        ("embed x.png --limit 0", ["--limit", "must be at least 1"]),
        ("probe --grid --limit 10", ["--limit", "must be at least 20"]),
        ("embed", ["name images or folders", "--split train"]),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        fails(&soda(at, &words), 2, &parts);
    }
    for minutes in ["0", "nan", "1e30"] {
        fails(&train(at, &["--max-minutes", minutes]), 2, &["--max-minutes", minutes]);
    }
}
