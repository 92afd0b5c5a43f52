//! Inputs to start from: from the program's own writers where they exist, otherwise by hand.

use super::layers::{frame, gzip, set_tar_checksum, zip};
use burn::tensor::Device;
use image::codecs::gif::GifEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, Frame, ImageEncoder, ImageFormat, RgbaImage};
use serde_json::json;
use soda::bench::row::{Place, Row};
use soda::config::{BUILT_IN, Config};
use soda::data::cifar::{self, Expected, Manifest, RECORD};
use soda::diffusion::Schedule;
use soda::edit::prior::Prior;
use soda::error::Result;
use soda::eval::table::{Known, Table, Writer, write_labels};
use soda::files::sha256;
use soda::model::Soda;
use soda::model::pytorch::Checkpoint;
use soda::model::weights::{self, Trained, WeightsFile};
use soda::run_dir::{self, Evaluation, Metrics, RunDir, Start};
use soda::train::checkpoint::{Continued, Position, Snapshot, State};
use soda::train::step::{Pair, step};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub const QUICK: &str = include_str!("../../../configs/quick.toml");

/// The smallest networks.
pub static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let sets = [
        "model.z_dim=2",
        "model.encoder.base=1",
        "model.unet.base=2",
        "model.unet.multipliers=[1]",
        "model.unet.blocks=1",
        "model.unet.groups=1",
        "model.unet.final_groups=1",
        "model.unet.attention=[]",
    ];
    Config::parse(QUICK, "quick.toml", &sets.map(String::from)).expect("a recipe")
});

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn record(label: u8, salt: usize) -> impl Iterator<Item = u8> {
    std::iter::once(label).chain((1..RECORD).map(move |i| (i / 40 + salt) as u8))
}

pub fn cifar_10() -> Vec<Vec<u8>> {
    vec![record(3, 1).chain(record(9, 2)).collect(), record(0, 0).collect(), vec![]]
}

pub fn cifar_100() -> Vec<Vec<u8>> {
    // One pixel after the coarse and the fine label.
    vec![
        (0..100).flat_map(|class: u8| std::iter::once(class / 5).chain(record(class, 7))).collect(),
    ]
}

/// Six files with one image each.
static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let names = Manifest::official().files.into_iter().map(|f| f.name);
    names.enumerate().map(|(i, name)| (name, record(i as u8, i).collect())).collect()
});

pub static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let expected = |(name, bytes): &(String, Vec<u8>)| Expected {
        name: name.clone(),
        bytes: bytes.len(),
        sha256: sha256(bytes),
    };
    Manifest { files: FILES.iter().map(expected).collect() }
});

/// Returns a tar archive of members: name, type and content (or the link's target).
pub fn plain_tar(members: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, content) in members {
        let link = b"12".contains(kind);
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136]
            .copy_from_slice(format!("{:011o}\0", if link { 0 } else { content.len() }).as_bytes());
        header[156] = *kind;
        if link {
            header[157..157 + content.len()].copy_from_slice(content);
        }
        header[257..265].copy_from_slice(b"ustar\x0000");
        set_tar_checksum(&mut header);
        out.extend(header);
        if !link {
            out.extend_from_slice(content);
            out.resize(out.len().next_multiple_of(512), 0);
        }
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Returns the same, gzipped.
pub fn tar(members: &[(&str, u8, &[u8])]) -> Vec<u8> {
    gzip(&plain_tar(members))
}

/// The members of the official archive.
fn official() -> Vec<(String, u8, Vec<u8>)> {
    let at = |name: &str| format!("{}/{name}", cifar::FOLDER);
    let mut all = vec![(at(""), b'5', vec![]), (at("readme.html"), b'0', b"x".to_vec())];
    all.extend(FILES.iter().map(|(name, bytes)| (at(name), b'0', bytes.clone())));
    all
}

fn npm() -> Vec<(String, u8, Vec<u8>)> {
    let mut all = vec![("package/package.json".to_owned(), b'0', b"{}".to_vec())];
    for (name, labels) in [("train", json!([0, 1, 2, 3, 4])), ("test", json!([5]))] {
        all.push((format!("package/{name}_lables.json"), b'0', labels.to_string().into_bytes()));
    }
    for (name, bytes) in FILES.iter() {
        let rgb: Vec<u8> = (0..3072).map(|i| bytes[1 + i % 3 * 1024 + i / 3]).collect();
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&rgb, 1024, 1, ExtendedColorType::Rgb8)
            .expect("a PNG");
        all.push((format!("package/{}.png", name.trim_end_matches(".bin")), b'0', png));
    }
    all
}

fn packed(members: &[(String, u8, Vec<u8>)]) -> Vec<u8> {
    tar(&members
        .iter()
        .map(|(name, kind, content)| (name.as_str(), *kind, &content[..]))
        .collect::<Vec<_>>())
}

pub fn archives() -> Vec<Vec<u8>> {
    let mut odd = vec![
        ("././@LongLink".to_owned(), b'L', b"a/long/name".to_vec()),
        ("pax".to_owned(), b'x', b"18 path=../../up\n".to_vec()),
    ];
    odd.extend(official());
    let mut links = official();
    links.push((format!("{}/link", cifar::FOLDER), b'2', b"../../up".to_vec()));
    links.push((format!("{}/hard", cifar::FOLDER), b'1', b"/etc/passwd".to_vec()));
    vec![
        packed(&official()),
        packed(&npm()),
        packed(&odd),
        packed(&links),
        packed(&[("../up".into(), b'0', vec![1])]),
        tar(&[]),
    ]
}

pub fn archives_100() -> Vec<Vec<u8>> {
    let at = |name: &str| format!("cifar-100-binary/{name}");
    let files = [at(""), at("train.bin"), at("test.bin")].map(|name| {
        let content = if name.ends_with('/') { vec![] } else { record(1, 1).collect() };
        (name, if content.is_empty() { b'5' } else { b'0' }, content)
    });
    vec![
        packed(&files),
        packed(&[
            (at("../../up"), b'0', vec![1]),
            (at("train.bin"), b'2', b"/etc/passwd".to_vec()),
        ]),
    ]
}

/// Returns the bytes that `write` writes to its file.
pub fn written(name: &str, write: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    write(&path);
    std::fs::read(path).expect("written")
}

pub fn weights() -> Vec<Vec<u8>> {
    let model = Soda::new(&CONFIG.model, 1, &Device::flex().autodiff());
    let trained = Trained { data_sha256: "0".repeat(64), step: 7, images: 56 };
    let whole = written("w.safetensors", |path| {
        weights::save(path, &model, &CONFIG, &trained).expect("saved")
    });
    let file = WeightsFile::parse(Path::new("w"), &whole).expect("weights");
    let half = written("h.safetensors", |path| {
        std::fs::write(path, file.export(true, None, &Vec::new()).expect("exported"))
            .expect("written")
    });
    vec![whole, half]
}

/// Returns a checkpoint in FutureXiang's layout: the golden file's names, at half its sizes.
fn checkpoint() -> Vec<u8> {
    let golden = Checkpoint::open(&golden("futurexiang.pth")).expect("a checkpoint");
    let text =
        |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let whole = |n: usize| [b"J", &(n as u32).to_le_bytes()[..]].concat();
    let tuple = |items: &[usize]| {
        [b"(".to_vec(), items.iter().flat_map(|n| whole(*n)).collect(), b"t".to_vec()].concat()
    };
    let mut pickle = [b"\x80\x02}".to_vec(), text("EMA"), b"}(".to_vec()].concat();
    let mut entries = Vec::new();
    for (i, (name, tensor)) in golden.tensors(&["EMA"]).expect("EMA").into_iter().enumerate() {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let shape: Vec<usize> =
            tensor.shape.iter().map(|n| if n % 4 == 0 { n / 2 } else { *n }).collect();
        let strides: Vec<usize> =
            (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        let count: usize = shape.iter().product();
        pickle.extend(text(&name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend(
            [
                text("storage"),
                b"ctorch\nFloatStorage\n".to_vec(),
                text(&i.to_string()),
                text("cpu"),
                whole(count),
            ]
            .concat(),
        );
        pickle.extend(
            [b"tQK\0".to_vec(), tuple(&shape), tuple(&strides), b"\x89N".to_vec(), b"tR".to_vec()]
                .concat(),
        );
        let numbers = (0..count).flat_map(|n| (n as f32 / count as f32).to_le_bytes()).collect();
        entries.push((format!("a/data/{i}"), numbers));
    }
    pickle.extend(b"us.");
    entries.insert(0, ("a/data.pkl".to_owned(), pickle));
    zip(&entries)
}

pub fn pytorch() -> Vec<Vec<u8>> {
    let small = [
        ("a/data.pkl".to_owned(), b"\x80\x02}X\x05\0\0\0MODEL}s.".to_vec()),
        ("a/byteorder".to_owned(), b"little".to_vec()),
    ];
    let read = |name: &str| std::fs::read(golden(name)).expect("a file");
    // The format of PyTorch before 1.6, and safetensors with another program's names.
    let others = ["torchvision/nested.pth", "torchvision/large.safetensors"].map(read);
    [
        vec![read("another_network.pth"), read("runs_code.pth"), zip(&small), checkpoint()],
        others.to_vec(),
    ]
    .concat()
}

pub fn sheets() -> Vec<Vec<u8>> {
    let labels: String = (0..50).map(|i| char::from(b'0' + i % 10)).collect();
    let grey: Vec<u8> = (0..1600 * 96).map(|i: usize| (i / 1600 * 3) as u8).collect();
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&grey, 1600, 96, ExtendedColorType::L8).expect("a PNG");
    let mut records = Vec::new();
    for (i, label) in labels.bytes().enumerate() {
        records.push(label - b'0');
        // All pixels of a row are the same, and 50 images stand side by side.
        let value = |plane: usize, p: usize| grey[(plane * 32 + p / 32) * 1600 + i * 32];
        records.extend((0..1024).map(|p| value(1, p).wrapping_add(value(0, p))));
        records.extend((0..1024).map(|p| value(0, p)));
        records.extend((0..1024).map(|p| value(2, p).wrapping_add(value(0, p))));
    }
    let indices: Vec<usize> = (0..50).collect();
    let sheet = |file: &str| {
        json!({
            "file": file, "images": 50, "sha256": sha256(&png),
            "records_sha256": sha256(&records), "labels": labels, "indices": indices,
        })
    };
    let manifest =
        json!({ "description": "d", "train": sheet("train.png"), "test": sheet("test.png") })
            .to_string();
    vec![frame(&[manifest.as_bytes(), &png, &png])]
}

pub fn pictures() -> Vec<Vec<u8>> {
    let rgba = RgbaImage::from_fn(20, 16, |x, y| {
        image::Rgba([(x * 9) as u8, (y * 9) as u8, 77, 200 - x as u8])
    });
    let whole = DynamicImage::ImageRgba8(rgba.clone());
    let rgb = DynamicImage::ImageRgb8(whole.to_rgb8());
    let encode = |image: &DynamicImage, format: ImageFormat| {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).expect("encoded");
        out.into_inner()
    };
    let mut animated = Vec::new();
    let mut gif = GifEncoder::new(&mut animated);
    gif.encode_frames([Frame::new(rgba.clone()), Frame::new(rgba)]).expect("encoded");
    drop(gif);
    let png = |image: DynamicImage| encode(&image, ImageFormat::Png);
    vec![
        png(whole.clone()),
        png(DynamicImage::ImageLuma8(whole.to_luma8())),
        png(DynamicImage::ImageRgba16(whole.to_rgba16())),
        png(DynamicImage::ImageLumaA8(whole.to_luma_alpha8())),
        encode(&rgb, ImageFormat::Jpeg),
        encode(&whole, ImageFormat::WebP),
        encode(&rgb, ImageFormat::Bmp),
        encode(&whole, ImageFormat::Bmp),
        encode(&whole, ImageFormat::Gif),
        animated,
    ]
}

pub fn recipes() -> Vec<Vec<u8>> {
    BUILT_IN
        .iter()
        .map(|(_, text)| text.as_bytes().to_vec())
        .chain([CONFIG.to_toml().into_bytes()])
        .collect()
}

pub fn overrides() -> Vec<Vec<u8>> {
    [
        "train.batch_size=64\nmodel.unet.multipliers=[1, 2]",
        "sample.guidance=[0.1, 0.2]\nmodel.unet.layer_modulation=true",
        "train.lr=1e-3\ndata.views=same",
        "sample.sampler=ddpm",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Returns an array in NumPy's format.
fn array(text: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{text:<117}\n");
    [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
}

pub fn table_parquet() -> Vec<Vec<u8>> {
    let table = |labels: &[u16]| {
        written("t.parquet", |path| {
            let classes = labels.iter().map(|label| format!("class {label}")).collect();
            let known = Known { split: Some("test".into()), classes };
            let mut table =
                Table::create(path, "z", 2, known, None, BTreeMap::new()).expect("a file");
            let names = ["a", "b", "c"].map(String::from);
            table.append(&[0.5, 1.5, -2.5, 3.5, 4.5, 5.5], &names, labels).expect("written");
            table.finish().expect("written");
        })
    };
    vec![table(&[]), table(&[0, 1, 2])]
}

pub fn npy() -> Vec<Vec<u8>> {
    let own = written("f.npy", |path| {
        let mut writer = Writer::create(path, 2, None, BTreeMap::new()).expect("a file");
        writer.append(&[0.5, 1.5, -2.5, 3.5, 4.5, 5.5]).expect("written");
        writer.finish().expect("written");
    });
    let labels = written("l.npy", |path| write_labels(path, &[0, 1, 2]).expect("written"));
    let double = array("{'descr': '>f8', 'fortran_order': True, 'shape': (3, 2), }", &[0x3f; 48]);
    let half = array("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }", &[0x11; 12]);
    let bytes = array("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", &[1, 0, 2]);
    let column = array("{'descr': '>i4', 'fortran_order': False, 'shape': (3, 1), }", &[0; 12]);
    vec![frame(&[&own, &labels]), frame(&[&double, &bytes]), frame(&[&half, &column])]
}

pub fn table_safetensors() -> Vec<Vec<u8>> {
    let own = written("f.safetensors", |path| {
        let metadata = [("weights".to_owned(), "x".to_owned())].into();
        let mut writer = Writer::create(path, 2, Some(&[0, 1, 2]), metadata).expect("a file");
        writer.append(&[0.5, 1.5, -2.5, 3.5, 4.5, 5.5]).expect("written");
        writer.finish().expect("written");
    });
    let tensor = |dtype: &str, shape: &[usize], from: usize, to: usize| {
        let offsets = [from, to];
        json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets })
    };
    let header =
        json!({ "z": tensor("BF16", &[3, 2], 0, 12), "y": tensor("U8", &[3], 12, 15) }).to_string();
    vec![
        own,
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0x11; 12], &[1, 0, 2]]
            .concat(),
    ]
}

/// Reads the cached prior of fixed weights and data, or calls `encode`.
pub fn cached_prior(folder: &Path, encode: impl FnOnce() -> Result<Vec<f32>>) -> Result<Prior> {
    Prior::cached(Some(folder), ("w", "d", 32), 2, 2, encode)
}

/// The name and bytes of the cached prior's file.
pub static PRIOR: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let z = |i: i32| [i % 7, i * i % 11].map(|v| v as f32 + if i % 2 == 0 { 20.0 } else { 0.0 });
    cached_prior(folder.path(), || Ok((0..100).flat_map(z).collect())).expect("a fit");
    let path = std::fs::read_dir(folder.path())
        .expect("readable")
        .next()
        .expect("a file")
        .expect("readable")
        .path();
    (
        path.file_name().expect("a name").to_string_lossy().into_owned(),
        std::fs::read(path).expect("readable"),
    )
});

pub fn priors() -> Vec<Vec<u8>> {
    vec![PRIOR.1.clone()]
}

pub fn metrics() -> Vec<Vec<u8>> {
    let row = |step: u64| run_dir::Row {
        step,
        images: 8 * step,
        loss: 0.5,
        grad_norm: 1.0,
        lr: 1e-3,
        images_per_s: 99.5,
        seconds: 1.25,
        loss_scale: None,
        left_out: None,
        pool_bytes: Some(3_000_000),
        pool_bytes_used: None,
    };
    let evaluation = Evaluation {
        step: 2,
        images: 16,
        knn: 31.5,
        linear: 40.25,
        n_train: 100,
        n_validation: 50,
    };
    vec![
        Metrics { rows: vec![row(1), row(2)], evaluations: vec![evaluation] }
            .to_jsonl()
            .into_bytes(),
    ]
}

pub fn starts() -> Vec<Vec<u8>> {
    let start = Start {
        time: "2026-01-01T00:00:00Z".into(),
        step: 0,
        from: Some("0".repeat(64)),
        from_name: Some("shipped".into()),
        from_images: Some(559_872),
        command: vec!["soda".into(), "train".into()],
        version: "0.1.0".into(),
        commit: None,
        device: "cpu".into(),
        adapter: "a processor".into(),
        driver: None,
        machine: json!({ "cores": 2, "memory_gib": 8.5 }),
        data: "CIFAR-10".into(),
        data_options: Default::default(),
        data_location: Some("bundled".into()),
        data_sha256: "1".repeat(64),
        images: 50_000,
    };
    let line = run_dir::json_line(&start);
    vec![line.repeat(2).into_bytes(), line.into_bytes()]
}

pub fn states() -> Vec<Vec<u8>> {
    let position = Position {
        step: 7,
        images: 56,
        updates: 7,
        seconds: 1.5,
        progress: 0.25,
        loss_first: Some(0.9),
        finished: false,
        planned: 1700,
        data_sha256: "1".repeat(64),
        continued: None,
    };
    let continued =
        Position { continued: Some(Continued { step: 3, images: 24 }), ..position.clone() };
    [position, continued]
        .iter()
        .map(|position| serde_json::to_vec_pretty(position).expect("JSON"))
        .collect()
}

/// The files of a checkpoint.
pub const CHECKPOINT: [&str; 4] =
    ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"];

/// Networks after one training step, their EMA and moments, and the state of the training.
pub fn checkpoints() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path());
    let mut state = State::new(&CONFIG, "data", &Device::flex());
    let batch = vec![0.5; 2 * 3 * 32 * 32];
    let pair =
        Pair::new(CONFIG.model.sides, batch.clone(), batch, None, &Device::flex().autodiff());
    (state, _) = step(state, pair, &Schedule::new(&CONFIG.diffusion), &CONFIG, 7, 1e-3);
    Snapshot::of(&state, &CONFIG)
        .and_then(|snapshot| snapshot.write(&run, 0, None))
        .expect("written");
    let files = CHECKPOINT.map(|name| std::fs::read(run.checkpoint(7).join(name)).expect("there"));
    vec![frame(&files.each_ref().map(Vec::as_slice))]
}

pub fn markers() -> Vec<Vec<u8>> {
    let sums: BTreeMap<&str, String> =
        CHECKPOINT.iter().map(|name| (*name, sha256(name.as_bytes()))).collect();
    vec![json!({ "sha256": sums }).to_string().into_bytes(), vec![]]
}

pub fn benches() -> Vec<Vec<u8>> {
    let place = Place {
        device: "cpu".into(),
        backend: "flex".into(),
        adapter: "2 threads".into(),
        kind: "cpu".into(),
        driver: None,
    };
    let row =
        |op: &str| Row { shape: Some(vec![2, 3]), median_ms: Some(1.5), ..Row::new(op, &place) };
    vec![
        json!({ "command": "bench", "rows": [row("copy"), row("view_pairs")] })
            .to_string()
            .into_bytes(),
    ]
}
