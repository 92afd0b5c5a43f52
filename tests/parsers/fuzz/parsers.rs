//! The targets: each parses the input, checks that the result agrees with it, and that an error
//! names the file.

use super::engine::Outcome;
use super::layers::unframe;
use super::seeds;
use burn::tensor::{Device, Tensor};
use soda::bench::{compare, merge, publish};
use soda::config::Config;
use soda::data::{archive, cifar, cifar100, picture, subset};
use soda::edit::prior::Prior;
use soda::error::Error;
use soda::eval::table;
use soda::files::sha256;
use soda::model::futurexiang::{self, Which};
use soda::model::pytorch::Checkpoint;
use soda::model::torchvision;
use soda::model::weights::{self, WeightsFile};
use soda::run_dir::{COMPLETE, RunDir};
use soda::train::checkpoint::{damage, load_step, trained_beside};
use std::path::Path;

/// Returns the message of `error`, and checks that it contains `name`.
fn sentence(error: &Error, name: &str) -> String {
    let sentence = error.to_string();
    assert!(sentence.contains(name), "the error doesn't name {name}: {sentence}");
    assert!(sentence.chars().count() <= 2000, "an error of {} characters", sentence.len());
    assert!(!sentence.chars().any(char::is_control), "an error with control characters");
    sentence
}

pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

pub fn cifar_10(input: &[u8], _: &Path) -> Outcome {
    let images = cifar::parse(input)?;
    assert_eq!(images.len() * cifar::RECORD, input.len());
    for (i, record) in input.chunks_exact(cifar::RECORD).enumerate() {
        assert_eq!(
            (images.label(i), &images.image(i).unwrap()[..]),
            (u16::from(record[0]), &record[1..])
        );
    }
    assert!(images.labels().iter().all(|label| *label < 10));
    Ok(format!("images: {}", images.is_empty()))
}

pub fn cifar_100(input: &[u8], _: &Path) -> Outcome {
    let images = cifar100::parse(input, 1)?;
    assert_eq!((images.len(), images.labels().iter().max()), (100, Some(&99)));
    Ok("images".into())
}

/// Unpacks below `folder` and checks that nothing is written elsewhere.
fn unpacked(
    folder: &Path,
    names: &[&str],
    unpack: impl FnOnce(&Path) -> soda::error::Result<()>,
) -> Outcome {
    let (outer, inner) = (folder.join("outer"), folder.join("outer/inner"));
    std::fs::create_dir_all(&inner).expect("a folder");
    let result = unpack(&inner);
    for entry in std::fs::read_dir(&outer).expect("readable") {
        assert_eq!(
            entry.expect("readable").file_name(),
            "inner",
            "something was unpacked outside the folder"
        );
    }
    for entry in std::fs::read_dir(&inner).expect("readable") {
        let entry = entry.expect("readable");
        let name = entry.file_name();
        assert!(names.iter().any(|wanted| name == *wanted), "{name:?} was unpacked");
        assert!(entry.file_type().expect("readable").is_file(), "{name:?} isn't a regular file");
        std::fs::remove_file(entry.path()).expect("removed");
    }
    result.map(|()| "unpacked".into()).map_err(|e| sentence(&e, "a.tar.gz"))
}

pub fn official_archive(input: &[u8], folder: &Path) -> Outcome {
    let manifest = &*seeds::MANIFEST;
    let names: Vec<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
    unpacked(folder, &names, |inner| archive::unpack(input, "a.tar.gz", inner, manifest))
}

pub fn archive_100(input: &[u8], folder: &Path) -> Outcome {
    unpacked(folder, &["train.bin", "test.bin"], |inner| {
        archive::unpack_100(input, "a.tar.gz", inner)
    })
}

pub fn weights(input: &[u8], folder: &Path) -> Outcome {
    let file = WeightsFile::parse(Path::new("w.safetensors"), input)
        .map_err(|e| sentence(&e, "w.safetensors"))?;
    let model = file.model(&Device::flex()).map_err(|e| sentence(&e, "w.safetensors"))?;
    drop(model);
    let (tensors, _) = weights::read(&write(folder, "w.safetensors", input)).expect("read before");
    assert!(
        tensors.iter().all(|(.., values)| values.iter().all(|v| v.is_finite())),
        "values that aren't finite"
    );
    Ok(format!("networks {}", file.trained().is_some()))
}

pub fn pytorch(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "c.pth", input);
    let mut checkpoint = Checkpoint::open(&path).map_err(|e| sentence(&e, "c.pth"))?;
    let mut said = String::new();
    let keys: Vec<String> = checkpoint.keys().into_iter().map(str::to_owned).collect();
    let tensors: Vec<_> = keys
        .iter()
        .filter_map(|key| checkpoint.tensors(&[key]))
        .flatten()
        .chain(checkpoint.outermost())
        .collect();
    for (name, tensor) in tensors {
        match checkpoint.read(&name, &tensor) {
            Ok(values) => assert_eq!(values.len(), tensor.shape.iter().product::<usize>()),
            Err(e) => said = sentence(&e, "c.pth"),
        }
    }
    let sets = ["model.unet.groups=1", "model.unet.final_groups=1"].map(String::from);
    let imported = [Which::Ema, Which::Model].map(|which| futurexiang::import(&path, which, &sets));
    for result in imported.into_iter().chain([torchvision::import(&path, Which::Model, &[])]) {
        match result {
            Ok((tensors, _)) => {
                assert!(
                    tensors
                        .iter()
                        .all(|(_, shape, values)| shape.iter().product::<usize>() == values.len())
                );
                return Ok("imported".into());
            }
            Err(e) => said += &sentence(&e, "c.pth"),
        }
    }
    Err(said)
}

pub fn sheets(input: &[u8], _: &Path) -> Outcome {
    let [manifest, train, test] = unframe(input)[..] else { return Err("no frame".into()) };
    let (train, test, _) = subset::decode(&String::from_utf8_lossy(manifest), [train, test])
        .map_err(|e| sentence(&e, "assets/cifar10-subset/"))?;
    assert!(train.labels().iter().chain(test.labels()).all(|label| *label < 10));
    Ok("images".into())
}

pub fn picture(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "p.png", input);
    picture::read_picture(&path, 32).map(|_| "picture".into()).map_err(|e| sentence(&e, "p.png"))
}

pub fn recipe(input: &[u8], _: &Path) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let config = Config::parse(&text, "r.toml", &[]).map_err(|e| sentence(&e, "r.toml"))?;
    let again =
        Config::parse(&config.to_toml(), "again", &[]).expect("what is written can be read");
    assert_eq!(config, again);
    Ok(format!("{:?} {}", config.sample.sampler, config.model.unet.layer_modulation))
}

/// `--set` arguments, one per line.
pub fn overrides(input: &[u8], _: &Path) -> Outcome {
    let sets: Vec<String> = String::from_utf8_lossy(input).lines().map(str::to_owned).collect();
    Config::parse(seeds::QUICK, "r.toml", &sets).map(|_| "recipe".into()).map_err(|e| e.to_string())
}

fn features(features: &Path, labels: Option<&Path>) -> Outcome {
    let read = table::read(features, labels)
        .map_err(|e| sentence(&e, if labels.is_some() { ".npy" } else { "f.safetensors" }))?;
    assert_eq!(read.values.len(), read.dim * read.labels.len());
    assert!(read.values.iter().all(|v| v.is_finite()));
    Ok("features".into())
}

pub fn npy(input: &[u8], folder: &Path) -> Outcome {
    let [values, labels] = unframe(input)[..] else { return Err("no frame".into()) };
    features(&write(folder, "f.npy", values), Some(&write(folder, "l.npy", labels)))
}

pub fn table_safetensors(input: &[u8], folder: &Path) -> Outcome {
    features(&write(folder, "f.safetensors", input), None)
}

pub fn table_parquet(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "t.parquet", input);
    let mut rows = 0;
    let read = table::read_parquet(&path, |names, labels, features| {
        assert!(labels.is_empty() || labels.len() == names.len());
        assert!(names.is_empty() || features.len().is_multiple_of(names.len()));
        rows += names.len();
        Ok(())
    });
    read.map(|()| format!("rows {}", rows > 0)).map_err(|e| sentence(&e, "t.parquet"))
}

pub fn prior(input: &[u8], folder: &Path) -> Outcome {
    write(folder, &seeds::PRIOR.0, input);
    let prior = seeds::cached_prior(folder, || Err(Error::failed("encoded again")))
        .map_err(|e| e.to_string())?;
    let Prior { mixture, .. } = &prior;
    let z = mixture.sample(3, 0.7, 1);
    assert_eq!(z.len(), 3 * mixture.dim);
    mixture.log_likelihood(&z);
    Ok("prior".into())
}

pub fn metrics(input: &[u8], folder: &Path) -> Outcome {
    write(folder, "metrics.jsonl", input);
    let read = || RunDir::new(folder).read_metrics().map_err(|e| sentence(&e, "metrics.jsonl"));
    let mut metrics = read()?;
    write(folder, "metrics.jsonl", metrics.to_jsonl().as_bytes());
    let again = read().expect("what is written can be read");
    assert_eq!(
        (again.rows.len(), again.evaluations.len()),
        (metrics.rows.len(), metrics.evaluations.len())
    );
    metrics.truncate(2);
    Ok(format!("rows {} {}", metrics.rows.is_empty(), metrics.evaluations.is_empty()))
}

pub fn starts(input: &[u8], folder: &Path) -> Outcome {
    write(folder, "starts.jsonl", input);
    let run = RunDir::new(folder);
    let starts = run.read_starts();
    if let Some(first) = starts.first() {
        run.add_start(first).map_err(|e| e.to_string())?;
        assert!(run.read_starts().len() > starts.len(), "rows were lost");
    }
    if starts.is_empty() { Err("no rows".into()) } else { Ok(format!("rows {}", starts.len() > 1)) }
}

pub fn state(input: &[u8], folder: &Path) -> Outcome {
    write(folder, "state.json", input);
    let trained = trained_beside(&folder.join("ema.safetensors")).ok_or("nothing")?;
    Ok(format!("{}", trained.step > 9))
}

/// The marker of a complete checkpoint, with the checksums of its files.
pub fn complete(input: &[u8], folder: &Path) -> Outcome {
    for name in seeds::CHECKPOINT {
        write(folder, name, name.as_bytes());
    }
    write(folder, "COMPLETE", input);
    let found =
        damage(folder).and_then(|damage| damage.map_or(Ok(()), |what| Err(Error::failed(what))));
    found.map(|()| "whole".into()).map_err(|e| sentence(&e, &folder.display().to_string()))
}

/// A foreign checkpoint with correct checksums, from which training would resume.
pub fn checkpoint(input: &[u8], folder: &Path) -> Outcome {
    let files = unframe(input);
    let run = RunDir::new(folder);
    let place = run.checkpoint(7);
    std::fs::create_dir_all(&place).expect("a folder");
    let sums = seeds::CHECKPOINT.iter().zip(&files).map(|(name, bytes)| {
        write(&place, name, bytes);
        ((*name).to_owned(), sha256(bytes).into())
    });
    let marker = serde_json::json!({ "sha256": sums.collect::<serde_json::Map<_, _>>() });
    write(&place, COMPLETE, marker.to_string().as_bytes());
    let loaded = load_step(&run, 7, &seeds::CONFIG, &Device::flex());
    std::fs::remove_dir_all(&place).expect("removed");
    // Burn frees networks that could be trained only at the next backward pass of any network.
    Tensor::<1>::from_floats([1.0], &Device::flex().autodiff()).require_grad().sum().backward();
    let state = loaded.map_err(|e| sentence(&e, "step_7"))?;
    Ok(format!("state {}", state.position.finished))
}

pub fn bench(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "b.json", input);
    let rows = compare::read(&path).map_err(|e| sentence(&e, "b.json"))?;
    let comparison = compare::compare(&rows, &rows);
    assert!(comparison.only_a.is_empty() && comparison.rows.iter().all(|pair| pair.ratio > 0.0));
    if let Ok(entries) = merge::read(&path) {
        let merged = merge::merge([entries]);
        assert!(
            publish::text(&merged)
                .lines()
                .chain(publish::markdown(&merged).lines())
                .all(|line| !line.chars().any(char::is_control))
        );
    }
    Ok(format!("rows {}", rows.is_empty()))
}
