//! Probe scores that several commands report: their JSON, and the cached baselines.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use soda::config::ProbeConfig;
use soda::error::{Error, Result};
use soda::eval::features::{FeatureKind, Frozen};
use soda::eval::method::Method;
use soda::eval::probe::{Baselines, Probed, Protocol, Split, TrainViews};
use soda::files;
use std::path::Path;

/// Version of the cached baselines, part of their key. Increase it whenever the initial weights,
/// the features or a protocol change, so that the baselines are re-computed.
const REVISION: u32 = 6;

/// A cache entry: the scores, and for each test image whether the classifiers were right about it.
#[derive(Deserialize, Serialize)]
struct Kept {
    baselines: Baselines,
    right: [Vec<f32>; 2],
}

/// Returns the baselines, from the user's cache folder if they have been computed before: they
/// depend only on the data, the protocol and the untrained networks.
pub fn baselines(protocol: &Protocol, frozen: &Frozen, kind: &FeatureKind) -> Result<Baselines> {
    let config = frozen.config;
    let of_denoiser =
        matches!(kind, FeatureKind::Denoiser { .. }).then(|| (&config.model, &config.diffusion));
    let key = format!(
        "{REVISION} {} {} {} {:?} {:?} {:?} {:?} {protocol:?} {kind} {of_denoiser:?}",
        frozen.data.sha256,
        config.seed,
        config.model.z_dim,
        config.model.encoder,
        (config.data.mean, config.data.std),
        (frozen.data.train.side(), config.model.sides),
        config.probe,
    );
    let digest = &files::sha256(key.as_bytes())[..24];
    let path =
        dirs::cache_dir().map(|dir| dir.join("soda/baselines").join(format!("{digest}.json")));
    let read = |path: &Path| {
        let Kept { mut baselines, right: [pixels, random] } =
            serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (baselines.pixels.right, baselines.random_encoder.right) = (pixels, random);
        Some(baselines)
    };
    let write = |baselines: &Baselines, path: &Path| {
        let right = [baselines.pixels.right.clone(), baselines.random_encoder.right.clone()];
        let bytes = serde_json::to_vec(&Kept { baselines: baselines.clone(), right })
            .map_err(|e| Error::failed(format!("cannot encode the baselines: {e}")))?;
        files::write_atomically(path, &bytes)
    };
    files::kept(
        "the score of the baselines",
        path.as_deref(),
        read,
        || protocol.baselines(frozen, kind),
        write,
    )
}

/// Returns a score as JSON. A single run has no spread.
pub fn scored(probed: &Probed) -> Value {
    let single = |block: &mut Value| {
        for key in ["top1_spread", "top3_spread", "top5_spread"] {
            if block["runs"] == 1 {
                block[key] = Value::Null;
            }
        }
    };
    let mut block = json!(probed);
    single(&mut block);
    block.get_mut("curve").and_then(Value::as_array_mut).into_iter().flatten().for_each(single);
    block
}

/// Returns the probe block of a command's JSON.
pub fn to_json(
    protocol: &Protocol,
    config: &ProbeConfig,
    features: &str,
    probed: &Probed,
    baselines: Option<&Baselines>,
    n_test: usize,
) -> Value {
    let mut block = json!({
        "protocol": protocol.method,
        "features": features,
        "train_views": protocol.views,
        "split": protocol.split,
        // Seed of the held-out split; the test set needs none.
        "split_seed": (protocol.split == Split::Selection).then_some(0),
        "seeds": protocol.seeds,
        "epochs": (protocol.method == Method::Linear).then_some(config.epochs),
        "n_test": n_test,
        "baselines": baselines.map(|b| json!({
            "pixels": scored(&b.pixels),
            "random_encoder": scored(&b.random_encoder),
        })),
        // The training views of the baselines. They are encoded once, so never "online".
        "baselines_train_views": baselines.map(|_| if protocol.views == TrainViews::Plain { "1" } else { "2" }),
    });
    if let (Value::Object(block), Value::Object(scores)) = (&mut block, scored(probed)) {
        block.extend(scores);
    }
    block
}
