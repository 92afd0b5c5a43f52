//! Recipes, and run directories with their checkpoints.

use super::{config, folder, refused, write};
use crate::common::program::{TINY, fails, soda};
use crate::memory;
use soda::config::{BUILT_IN, Config};
use soda::run_dir::RunDir;

#[test]
fn recipes_with_absurd_values_are_refused_by_their_key() {
    let _alone = memory::alone();
    let folder = folder();
    let text = BUILT_IN[1].1;
    for (key, value, part) in [
        ("train.steps", "1e18", "float"),
        (
            "train.steps",
            "1000000000000000000",
            "train.steps = 1000000000000000000: must be at most",
        ),
        ("train.steps", "9223372036854775808", ""),
        ("train.steps", "0", "at least 1"),
        ("train.batch_size", "1000000000000", "train.batch_size = 1000000000000"),
        ("train.batch_size", "-8", ""),
        ("model.encoder.base", "0", "model.encoder.base = 0"),
        ("model.unet.base", "0", "model.unet.base = 0"),
        ("model.unet.base", "3", "model.unet.base = 3: must be even"),
        ("model.unet.base", "1048576", "model.unet.base = 1048576"),
        ("model.unet.blocks", "1000000", "model.unet.blocks = 1000000"),
        ("model.z_dim", "9223372036854775807", "model.z_dim"),
        ("model.unet.multipliers", "[]", "model.unet.multipliers"),
        ("model.unet.multipliers", "[0]", "model.unet.multipliers"),
        ("model.unet.multipliers", "[9223372036854775807]", "model.unet.multipliers"),
        ("train.lr", "nan", "train.lr = NaN"),
        ("train.lr", "inf", "train.lr = inf"),
        ("train.lr", "-1.0", "train.lr = -1"),
        ("sample.guidance", "nan", "sample.guidance"),
        ("data.mean", "[nan, 0.0, 0.0]", "data.mean"),
        ("data.std", "[0.0, 1.0, 1.0]", "data.std"),
        ("data.threads", "1000000000", "data.threads = 1000000000"),
        ("data.source.rand_augment_ops", "1000000000000", "data.source.rand_augment_ops"),
        ("data.source.crop_ratio", "[1.0, inf]", "data.source.crop_ratio"),
        ("diffusion.steps", "1000000000000", "diffusion.steps"),
    ] {
        refused(text.len(), &["recipe.toml", part], || {
            Config::parse(text, "recipe.toml", &[format!("{key}={value}")])
        });
    }
    let open = |name: &str, bytes: &[u8], part: &str| {
        let path = write(&folder, name, bytes);
        refused(bytes.len(), &[name, part], || Config::load(&path, &[]));
    };
    for bracket in ["[", "{a=", "a."] {
        open("deep.toml", format!("a = {}", bracket.repeat(200_000)).as_bytes(), "");
        open("deep.toml", format!("{}1", bracket.repeat(200_000)).as_bytes(), "");
    }
    open("tables.toml", "[[a]]\n".repeat(100_000).as_bytes(), "");
    open("zeros.toml", &vec![0; 1 << 20], "");
    open("latin1.toml", b"seed = \"\xe9\"", "");
    open("long.toml", format!("seed = {}", "9".repeat(1 << 20)).as_bytes(), "");
    open("twice.toml", format!("seed = 1\n{text}").as_bytes(), "");
    // The program's exit code shows that the recipe is at fault.
    write(&folder, "r.toml", text.replace("seed = 1", "seed = 1e99").as_bytes());
    fails(
        &soda(folder.path(), &["train", "--config", "r.toml", "--dry-run"]),
        2,
        &["r.toml", "seed"],
    );
}

#[test]
fn other_files_are_skipped_and_damaged_checkpoints_are_reported() {
    let _alone = memory::alone();
    let folder = folder();
    let run = RunDir::new(folder.path().join("r"));
    run.create(&config(&TINY)).expect("a run");
    let checkpoints = run.path.join("checkpoints");
    for name in [
        "step_x",
        "step_-1",
        "step_99999999999999999999",
        "step_",
        "other",
        "step_3.partial",
        "..step_4",
        "step_5 ",
    ] {
        std::fs::create_dir_all(checkpoints.join(name)).expect("a folder");
        std::fs::write(checkpoints.join(name).join("COMPLETE"), "").expect("a file");
    }
    std::fs::write(checkpoints.join("step_6"), "a file").expect("a file");
    std::fs::create_dir_all(checkpoints.join("step_7")).expect("a folder");
    assert_eq!(run.checkpoints(), [0u64; 0], "none of these is a complete checkpoint");
    let reconstruct = ["reconstruct", "--device", "cpu", "--run", "r", "-n", "1", "--out", "p.png"];
    fails(&soda(folder.path(), &reconstruct), 1, &["holds no"]);

    // A folder that claims to be complete, with foreign files.
    let place = run.checkpoint(9);
    std::fs::create_dir_all(place.join("state.json")).expect("a folder where a file should be");
    std::fs::write(place.join("COMPLETE"), "").expect("a file");
    std::fs::write(
        place.join("ema.safetensors"),
        [&u64::MAX.to_le_bytes()[..], b"rubbish"].concat(),
    )
    .expect("a file");
    std::fs::write(place.join("notes.exe"), "MZ").expect("a file");
    fails(&soda(folder.path(), &reconstruct), 1, &["step_9"]);
    // A row of metrics that the program didn't write.
    std::fs::write(run.metrics(), format!("{}\n{{}}\n", "[".repeat(100_000))).expect("a file");
    refused(100_000, &["metrics.jsonl line 1 is not a row"], || run.read_metrics());
    std::fs::write(run.starts(), format!("{}\nnull\n", "{\"a\":".repeat(100_000))).expect("a file");
    assert!(run.read_starts().is_empty());
}
