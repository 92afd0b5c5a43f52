//! Every parser of bytes that come from elsewhere. Each error must name what it is about.

use crate::engine::{MEMORY, Outcome, TIME, Target};
use crate::layers::{self, in_frame, unframe};
use crate::seeds;
use burn::tensor::Device;
use soda::bench::compare;
use soda::config::Config;
use soda::data::{archive, cifar, cifar100, picture, subset};
use soda::edit::prior::Prior;
use soda::error::Error;
use soda::eval::table;
use soda::model::futurexiang::{self, Which};
use soda::model::pytorch::Checkpoint;
use soda::model::weights::{self, WeightsFile};
use soda::run_dir::RunDir;
use soda::train::checkpoint::trained_beside;
use std::path::Path;

pub const TARGETS: [Target; 17] = [
    Target { run: cifar_10, seeds: seeds::cifar_10, share: 170_000, ..target("cifar10_batch") },
    Target { run: cifar_100, seeds: seeds::cifar_100, share: 10_000, ..target("cifar100_batch") },
    Target {
        run: official_archive,
        seeds: seeds::archives,
        share: 8_000,
        layers: &[layers::in_tar, layers::in_tar_header, layers::in_tar_header, layers::in_gzip],
        words: &[
            "../",
            "/",
            "package/",
            "cifar-10-batches-bin/",
            "data_batch_1.bin",
            "test_batch.png",
            "\\",
            "C:",
            "ustar\x0000",
        ],
        ..target("archive")
    },
    Target {
        run: archive_100,
        seeds: seeds::archives_100,
        share: 8_000,
        layers: &[layers::in_tar, layers::in_tar_header, layers::in_gzip],
        words: &["../", "/", "cifar-100-binary/", "train.bin", "test.bin"],
        ..target("archive_100")
    },
    Target {
        run: weights,
        seeds: seeds::weights,
        share: 30_000,
        layers: &[layers::in_safetensors_header, layers::in_recipe],
        words: SAFETENSORS,
        ..target("weights")
    },
    Target {
        run: pytorch,
        seeds: seeds::pytorch,
        share: 25_000,
        layers: &[layers::in_pickle, layers::in_pickle, layers::in_storages],
        words: PICKLE,
        ..target("pytorch")
    },
    Target {
        run: sheets,
        seeds: seeds::sheets,
        share: 4_000,
        layers: &[
            |input, change| in_frame(input, 0, layers::whole, change),
            |input, change| in_frame(input, 1, layers::in_png_chunks, change),
            |input, change| in_frame(input, 1, layers::in_png_header, change),
            |input, change| in_frame(input, 2, layers::in_png_pixels, change),
        ],
        words: &["\"images\":", "\"labels\":\"", "\"sha256\":", "\"indices\":[", "IDAT", "IHDR", "PLTE", "tRNS"],
        ..target("sheets")
    },
    Target {
        run: picture,
        seeds: seeds::pictures,
        share: 12_000,
        layers: &[layers::in_png_chunks, layers::in_png_header, layers::in_png_pixels],
        words: &["IDAT", "IHDR", "PLTE", "tRNS", "IEND", "eXIf", "acTL", "fcTL", "RIFF", "VP8L", "GIF89a", "BM", "!"],
        // What a photograph of 512 MiB takes, which is allowed: decoded, and its middle square.
        memory: MEMORY + (1536 << 20),
        ..target("picture")
    },
    Target { run: recipe, seeds: seeds::recipes, share: 50_000, words: RECIPE, ..target("recipe") },
    Target {
        run: npy,
        seeds: seeds::npy,
        share: 90_000,
        layers: &[
            |input, change| in_frame(input, 0, layers::in_npy_header, change),
            |input, change| in_frame(input, 0, layers::whole, change),
            |input, change| in_frame(input, 1, layers::in_npy_header, change),
        ],
        words: &[
            "'descr':",
            "'fortran_order':",
            "'shape':",
            "(",
            ")",
            ",",
            "True",
            "False",
            "'<f4'",
            "'>f8'",
            "'<f2'",
            "'|u1'",
            "'<i8'",
            "'<c16'",
            "'<M8[ns]'",
            "'|S5'",
            "[('a','<f4')]",
            "L",
            "\n",
        ],
        ..target("table_npy")
    },
    Target {
        run: table_safetensors,
        seeds: seeds::table_safetensors,
        share: 90_000,
        layers: &[layers::in_safetensors_header, layers::in_safetensors_header],
        words: SAFETENSORS,
        ..target("table_safetensors")
    },
    Target {
        run: prior,
        seeds: seeds::priors,
        share: 23_000,
        layers: &[layers::in_safetensors_header],
        words: SAFETENSORS,
        ..target("prior")
    },
    Target {
        run: metrics,
        seeds: seeds::metrics,
        share: 150_000,
        words: &[
            "{",
            "}",
            ":",
            ",",
            "\"step\"",
            "\"images\"",
            "\"loss\"",
            "\"knn\"",
            "\"linear\"",
            "\"n_train\"",
            "\"seconds\"",
            "\n",
        ],
        ..target("metrics")
    },
    Target {
        run: starts,
        seeds: seeds::starts,
        share: 90_000,
        words: &["{", "}", ":", ",", "\"time\"", "\"machine\"", "\"command\"", "\"from\"", "\"images\"", "[", "\n"],
        ..target("starts")
    },
    Target {
        run: state,
        seeds: seeds::states,
        share: 130_000,
        words: &[
            "{",
            "}",
            ":",
            ",",
            "\"step\"",
            "\"updates\"",
            "\"progress\"",
            "\"loss_first\"",
            "\"finished\"",
            "\"data_sha256\"",
        ],
        ..target("state")
    },
    Target {
        run: bench,
        seeds: seeds::benches,
        share: 90_000,
        words: &["{", "}", ":", ",", "\"command\"", "\"rows\"", "\"op\"", "\"device\"", "\"median_ms\"", "\"shape\"", "["],
        ..target("bench")
    },
    Target { run: overrides, seeds: seeds::overrides, share: 20_000, words: RECIPE, ..target("overrides") },
];

const fn target(name: &'static str) -> Target {
    Target { name, run: |_, _| Ok(String::new()), seeds: Vec::new, layers: &[], words: &[], share: 0, memory: MEMORY, time: TIME }
}

const SAFETENSORS: &[&str] = &[
    "{",
    "}",
    "\"__metadata__\":{",
    "\"dtype\":",
    "\"shape\":[",
    "\"data_offsets\":[",
    "\"F32\"",
    "\"F16\"",
    "\"F64\"",
    "\"BF16\"",
    "\"I64\"",
    "\"BOOL\"",
    "\"F4\"",
    "\"features\":",
    "\"labels\":",
    "\"config\":",
    ",",
    "]",
    "\u{0}\u{0}",
];
const PICKLE: &[&str] = &[
    "(",
    ")",
    "t",
    "]",
    "}",
    "u",
    "s",
    "a",
    "e",
    "R",
    "Q",
    "b",
    "q\u{1}",
    "h\u{1}",
    "N",
    "K\u{1}",
    "M\u{1}\u{1}",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n",
    "ccollections\nOrderedDict\n",
    "cposix\nsystem\n",
    "ctorch._utils\n_rebuild_parameter\n",
    "X\u{4}\0\0\0MODE",
    ".",
    "\u{7f}\u{7f}\u{7f}\u{7f}",
    "PK\u{1}\u{2}",
    "PK\u{6}\u{6}",
];
const RECIPE: &[&str] = &[
    "[model]",
    "[model.unet]",
    "[train]",
    "[sample]",
    "base = ",
    "blocks = ",
    "multipliers = [",
    "attention = [",
    "groups = ",
    "z_dim = ",
    "layer_modulation = true",
    "guidance = [0.1, 0.2]",
    "views = \"conditioned\"",
    "view_conditioning = true",
    "=",
    "\"\"\"",
    "'''",
    "[[",
    ".",
    "1979-05-27T07:32:00Z",
    "0x7fffffffffffffff",
    "\n",
];

/// The sentence of `error`, which must name `name`.
fn sentence(error: &Error, name: &str) -> String {
    let sentence = error.to_string();
    assert!(sentence.contains(name), "the error doesn't name {name}: {sentence}");
    assert!(sentence.len() < 20_000, "an error of {} characters", sentence.len());
    sentence
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

fn cifar_10(input: &[u8], _: &Path) -> Outcome {
    let images = cifar::parse(input)?;
    assert_eq!(images.len() * cifar::RECORD, input.len());
    for (i, record) in input.chunks_exact(cifar::RECORD).enumerate() {
        assert_eq!((images.label(i), &images.image(i)[..]), (record[0], &record[1..]));
    }
    assert!(images.labels().iter().all(|label| *label < 10));
    Ok(format!("images: {}", images.is_empty()))
}

fn cifar_100(input: &[u8], _: &Path) -> Outcome {
    let images = cifar100::parse(input, 1)?;
    assert_eq!((images.len(), images.labels().iter().max()), (100, Some(&99)));
    Ok("images".into())
}

/// Unpacks below `folder` and sees to it that nothing is anywhere else.
fn unpacked(folder: &Path, names: &[&str], unpack: impl FnOnce(&Path) -> soda::error::Result<()>) -> Outcome {
    let (outer, inner) = (folder.join("outer"), folder.join("outer/inner"));
    std::fs::create_dir_all(&inner).expect("a folder");
    let result = unpack(&inner);
    for entry in std::fs::read_dir(&outer).expect("readable") {
        assert_eq!(entry.expect("readable").file_name(), "inner", "something was unpacked beside the folder");
    }
    for entry in std::fs::read_dir(&inner).expect("readable") {
        let entry = entry.expect("readable");
        let name = entry.file_name();
        assert!(names.iter().any(|wanted| name == *wanted), "{name:?} was unpacked");
        assert!(entry.file_type().expect("readable").is_file(), "{name:?} is no plain file");
        std::fs::remove_file(entry.path()).expect("removed");
    }
    result.map(|()| "unpacked".into()).map_err(|e| sentence(&e, "a.tar.gz"))
}

fn official_archive(input: &[u8], folder: &Path) -> Outcome {
    let manifest = &*seeds::MANIFEST;
    let names: Vec<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
    unpacked(folder, &names, |inner| archive::unpack(input, "a.tar.gz", inner, manifest))
}

fn archive_100(input: &[u8], folder: &Path) -> Outcome {
    unpacked(folder, &["train.bin", "test.bin"], |inner| archive::unpack_100(input, "a.tar.gz", inner))
}

fn weights(input: &[u8], folder: &Path) -> Outcome {
    let file = WeightsFile::parse(Path::new("w.safetensors"), input).map_err(|e| sentence(&e, "w.safetensors"))?;
    let model = file.model(&Device::flex()).map_err(|e| sentence(&e, "w.safetensors"))?;
    drop(model);
    let (tensors, _) = weights::read(&write(folder, "w.safetensors", input)).expect("read before");
    assert!(tensors.iter().all(|(.., values)| values.iter().all(|v| v.is_finite())), "numbers that aren't finite");
    Ok(format!("networks {}", file.trained().is_some()))
}

fn pytorch(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "c.pth", input);
    let mut checkpoint = Checkpoint::open(&path).map_err(|e| sentence(&e, "c.pth"))?;
    let mut said = String::new();
    let keys: Vec<String> = checkpoint.keys().into_iter().map(str::to_owned).collect();
    let tensors: Vec<_> = keys.iter().filter_map(|key| checkpoint.tensors(key)).flatten().collect();
    for (name, tensor) in tensors {
        match checkpoint.read(&name, &tensor) {
            Ok(values) => assert_eq!(values.len(), tensor.shape.iter().product::<usize>()),
            Err(e) => said = sentence(&e, "c.pth"),
        }
    }
    let sets = ["model.unet.groups=1", "model.unet.final_groups=1"].map(String::from);
    let imported = [Which::Ema, Which::Model].map(|which| futurexiang::import(&path, which, &sets));
    for result in imported {
        match result {
            Ok((tensors, _)) => {
                assert!(tensors.iter().all(|(_, shape, values)| shape.iter().product::<usize>() == values.len()));
                return Ok("imported".into());
            }
            Err(e) => said += &sentence(&e, "c.pth"),
        }
    }
    Err(said)
}

fn sheets(input: &[u8], _: &Path) -> Outcome {
    let [manifest, train, test] = unframe(input)[..] else { return Err("no frame".into()) };
    let (train, test, _) =
        subset::decode(&String::from_utf8_lossy(manifest), [train, test]).map_err(|e| sentence(&e, "assets/cifar10-subset/"))?;
    assert!(train.labels().iter().chain(test.labels()).all(|label| *label < 10));
    Ok("images".into())
}

fn picture(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "p.png", input);
    picture::read_picture(&path).map(|_| "picture".into()).map_err(|e| sentence(&e, "p.png"))
}

fn recipe(input: &[u8], _: &Path) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let config = Config::parse(&text, "r.toml", &[]).map_err(|e| sentence(&e, "r.toml"))?;
    let again = Config::parse(&config.to_toml(), "again", &[]).expect("what is written can be read");
    assert_eq!(config, again);
    Ok(format!("{:?} {}", config.sample.sampler, config.model.unet.layer_modulation))
}

/// `--set` by lines.
fn overrides(input: &[u8], _: &Path) -> Outcome {
    let sets: Vec<String> = String::from_utf8_lossy(input).lines().map(str::to_owned).collect();
    Config::parse(seeds::QUICK, "r.toml", &sets).map(|_| "recipe".into()).map_err(|e| e.to_string())
}

fn features(features: &Path, labels: Option<&Path>) -> Outcome {
    let read =
        table::read(features, labels).map_err(|e| sentence(&e, if labels.is_some() { ".npy" } else { "f.safetensors" }))?;
    assert_eq!(read.values.len(), read.dim * read.labels.len());
    assert!(read.values.iter().all(|v| v.is_finite()));
    Ok("features".into())
}

fn npy(input: &[u8], folder: &Path) -> Outcome {
    let [values, labels] = unframe(input)[..] else { return Err("no frame".into()) };
    features(&write(folder, "f.npy", values), Some(&write(folder, "l.npy", labels)))
}

fn table_safetensors(input: &[u8], folder: &Path) -> Outcome {
    features(&write(folder, "f.safetensors", input), None)
}

fn prior(input: &[u8], folder: &Path) -> Outcome {
    write(folder, &seeds::PRIOR.0, input);
    let prior = seeds::cached_prior(folder, || Err(Error::failed("encoded again"))).map_err(|e| e.to_string())?;
    let Prior { mixture, .. } = &prior;
    let z = mixture.sample(3, 0.7, 1);
    assert_eq!(z.len(), 3 * mixture.dim);
    mixture.log_likelihood(&z);
    Ok("prior".into())
}

fn metrics(input: &[u8], folder: &Path) -> Outcome {
    write(folder, "metrics.jsonl", input);
    let read = || RunDir::new(folder).read_metrics().map_err(|e| sentence(&e, "metrics.jsonl"));
    let mut metrics = read()?;
    write(folder, "metrics.jsonl", metrics.to_jsonl().as_bytes());
    let again = read().expect("what is written can be read");
    assert_eq!((again.rows.len(), again.evaluations.len()), (metrics.rows.len(), metrics.evaluations.len()));
    metrics.truncate(2);
    Ok(format!("rows {} {}", metrics.rows.is_empty(), metrics.evaluations.is_empty()))
}

fn starts(input: &[u8], folder: &Path) -> Outcome {
    write(folder, "starts.jsonl", input);
    let run = RunDir::new(folder);
    let starts = run.read_starts();
    if let Some(first) = starts.first() {
        run.add_start(first).map_err(|e| e.to_string())?;
        assert!(run.read_starts().len() >= starts.len(), "rows were lost");
    }
    if starts.is_empty() { Err("no rows".into()) } else { Ok(format!("rows {}", starts.len() > 1)) }
}

fn state(input: &[u8], folder: &Path) -> Outcome {
    write(folder, "state.json", input);
    let trained = trained_beside(&folder.join("ema.safetensors"), &seeds::CONFIG).ok_or("nothing")?;
    Ok(format!("{}", trained.step > 9))
}

fn bench(input: &[u8], folder: &Path) -> Outcome {
    let path = write(folder, "b.json", input);
    let rows = compare::read(&path).map_err(|e| sentence(&e, "b.json"))?;
    let comparison = compare::compare(&rows, &rows);
    assert!(comparison.only_a.is_empty() && comparison.rows.iter().all(|pair| pair.ratio > 0.0));
    Ok(format!("rows {}", rows.is_empty()))
}
