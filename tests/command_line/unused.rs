//! Flags that have no effect in a call are refused, or named in a warning.

use crate::common::program::{fails, soda, succeeds, text, train};

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: &[(&[&str], &str)] = &[
        (&["probe", "--limit", "1000", "--epochs", "5"], "--epochs"),
        (&["probe", "--out", "g.png", "--whiten"], "--whiten"),
        (&["probe", "--times", "11", "--split", "selection"], "--split"),
        (&["probe", "--test-features", "t.npy", "--run", "r"], "--run"),
        (&["probe", "--labels-from", "l.npy", "--weights", "w"], "--weights"),
        (&["probe", "--test-labels", "l.npy", "--features", "z"], "--features"),
        (&["probe", "--features", "pixels", "--precision", "f16"], "leave out"),
        (&["data", "show", "bundled", "--data", "d"], "--data d: bundled is named already"),
        (&["data", "verify", "bundled", "--data", "d"], "--data d: bundled is named already"),
        (&["data", "pack", "p", "--data", "d", "--out", "o.safetensors"], "--data d: p is named"),
        (&["train", "--auto-batch", "--dry-run"], "--dry-run"),
        (&["bench", "--suite", "kernels", "--device", "cpu", "--profile"], "--profile"),
        (&["bench", "--merge", "a.json", "--device", "cpu"], "--device"),
        (&["bench", "--compare", "a.json", "b.json", "--device", "cpu"], "--device"),
    ];
    for (args, says) in cases {
        fails(&soda(folder.path(), args), 2, &[says]);
    }
    let tuned = ["--auto-batch", "--set", "train.micro_batch=2"];
    fails(&train(folder.path(), &tuned), 2, &["--auto-batch finds train.micro_batch"]);
}

#[test]
fn flags_without_an_effect_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let fetch = ["data", "fetch", "--url", "http://127.0.0.1:9/x", "--layout", "splits"];
    let failed = soda(at, &fetch);
    fails(&failed, 1, &["cannot download"]);
    assert!(text(&failed.stderr).contains("--layout is not used"), "{}", text(&failed.stderr));
    let export = ["export", "--pytorch", "--out", "w.safetensors"];
    let warned = soda(at, &[&export[..], &["--device", "vulkan:99", "--data", "d"]].concat());
    succeeds(&warned);
    for flag in ["--device", "--data"] {
        assert!(text(&warned.stderr).contains(&format!("{flag} is not used")), "{flag}");
    }
    assert!(!text(&soda(at, &export).stderr).contains("is not used"));

    let sets = ["data.source.crop=0", "data.source.flip=0.5", "data.target.flip=0.5"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let said = text(&train(at, &[&["--dry-run"][..], &sets].concat()).stderr);
    assert!(said.contains("data.source.flip has no effect with data.source.crop=0"), "{said}");
    assert!(!said.contains("data.target.flip"), "{said}");
}

#[test]
fn a_resumed_run_names_only_the_weights_it_started_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let step = |more: &[&str]| train(at, &[&["--set", "train.steps=1"], more].concat());
    succeeds(&step(&["--run", "a"]));
    succeeds(&step(&["--run", "other", "--set", "seed=7"]));
    let weights = |run: &str| format!("{run}/checkpoints/step_1/ema.safetensors");
    succeeds(&step(&["--run", "c", "--from", &weights("a")]));
    let more = |from: &str| {
        let resume = ["--run", "c", "--resume", "--set", "train.steps=2", "--allow-change"];
        train(at, &[&resume[..], &["--from", from]].concat())
    };
    fails(&more(&weights("other")), 2, &["was not started from", "starts.jsonl"]);
    let same = more(&weights("a"));
    succeeds(&same);
    assert!(!text(&same.stderr).contains("training c from"), "{}", text(&same.stderr));
}
