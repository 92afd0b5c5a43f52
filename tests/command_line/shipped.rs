//! The shipped weights: intact, better than pixels, and used if no weights are named.

use crate::common::program::{json, soda, succeeds, text};
use burn::tensor::Device;
use soda::config::Config;
use soda::edit::linear_decoder::LinearDecoder;
use soda::model::shipped;
use soda::train::checkpoint::State;
use std::path::Path;

/// SHA-256 of the full CIFAR-10, as the program computes it.
const CIFAR_10: &str = "5fdcf57d170bdbc7da569af1dabd64d7d3c7507e9e7aa861fc7b691d5355c232";

#[test]
fn they_state_their_training_and_the_finetuning_recipe_has_their_networks() {
    let weights = shipped::open().expect("whole");
    let trained = weights.trained().expect("their training is known");
    assert_eq!(trained.data_sha256, CIFAR_10);
    assert!(
        trained.step > 0 && trained.images == trained.step * weights.config.train.batch_size as u64,
        "{trained:?}"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped::PATH);
    assert!(
        std::fs::metadata(&file).expect("there").len() < 15 << 20,
        "too large to be part of the repository"
    );
    assert!(
        file.with_extension("json").exists() && file.with_file_name("metrics.jsonl").exists(),
        "their scores aren't next to them"
    );

    let config = Config::load(Path::new("configs/finetune.toml"), &[]).expect("a recipe");
    State::trained(&config, &weights, "", &Device::flex()).map(drop).expect("the same networks");
    let other = Config::load(Path::new("configs/finetune.toml"), &["model.z_dim=64".into()])
        .expect("a recipe");
    assert!(
        State::trained(&other, &weights, "", &Device::flex()).is_err(),
        "other networks would pass"
    );
    // Sampling starts from more than noise.
    let linear = LinearDecoder::stored(&weights).expect("whole").expect("with them");
    assert_eq!((linear.z_dim(), linear.side()), (weights.config.model.z_dim, 32));
    // They were trained with the recipe in the source tree. They see whole images enlarged.
    let small = Config::load(Path::new("configs/small.toml"), &["data.source.side=48".into()])
        .expect("a recipe");
    assert_eq!(
        (&small.model, &small.diffusion),
        (&weights.config.model, &weights.config.diffusion)
    );
}

#[test]
fn commands_use_them_if_no_weights_are_named_and_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let knn = |more: &[&str], out: &str| {
        let output = soda(
            at,
            &[
                &[
                    "probe",
                    "--device",
                    "cpu",
                    "--data",
                    "bundled",
                    "--protocol",
                    "knn",
                    "--json",
                    out,
                ][..],
                more,
            ]
            .concat(),
        );
        succeeds(&output);
        (json(&at.join(out))["top1"].as_f64().expect("a score"), text(&output.stderr))
    };
    let (z, said) = knn(&[], "z.json");
    assert!(
        said.contains(&format!("shipped weights {}", shipped::PATH)) && said.contains("--weights"),
        "{said}"
    );
    assert_eq!(json(&at.join("z.json"))["weights"]["path"], shipped::PATH);
    let (pixels, said) = knn(&["--features", "pixels"], "pixels.json");
    assert!(!said.contains("shipped"), "{said}");
    assert!(z > pixels + 3.0, "k-NN on z {z} %, on pixels {pixels} %: no better than no weights");
    let (named, said) = knn(&["--weights", "shipped"], "named.json");
    assert_eq!(named, z);
    assert!(said.contains(shipped::PATH), "{said}");

    for command in [
        &["reconstruct", "-n", "1", "--steps", "2"][..],
        &["sample", "-n", "1", "--steps", "2"],
        &["embed", "--split", "test", "--limit", "2", "--out", "z.npy"],
    ] {
        let output = soda(at, &[command, &["--device", "cpu", "--data", "bundled"]].concat());
        succeeds(&output);
        assert!(
            text(&output.stderr).contains("using the shipped weights"),
            "{command:?}: {}",
            text(&output.stderr)
        );
    }
}
