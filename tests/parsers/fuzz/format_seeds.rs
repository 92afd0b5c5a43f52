//! Data sets to start from: small ones that other programs wrote, and the program's own.

use super::layers::{frame, gzip, in_safetensors_header};
use super::seeds::{golden, plain_tar, written};
use flate2::read::GzDecoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;
use soda::data::{Options, write_pack};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, LazyLock};

/// Returns a PNG of the smallest size that is read.
pub fn png(i: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..192).map(|k| (k * i + k) as u8).collect();
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&pixels, 8, 8, ExtendedColorType::Rgb8).expect("a PNG");
    png
}

/// Files from PyArrow (tests/reference/formats.py), compressed with Snappy, Zstandard and Gzip,
/// with pages of both versions; and an uncompressed file of several row groups in which images and
/// paths may be missing.
pub fn parquet() -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(golden("formats").join(name)).expect("a file");
    vec![read("hub.parquet"), read("texts.parquet"), read("numbers.parquet"), plain_parquet()]
}

fn plain_parquet() -> Vec<u8> {
    let schema = "message m { optional group image { optional binary bytes; \
                  optional binary path (UTF8); } optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let names = json!({ "names": ["ant", "bee"], "_type": "ClassLabel" });
    let features =
        json!({ "info": { "features": { "image": { "_type": "Image" }, "label": names } } })
            .to_string();
    let pair = KeyValue { key: "huggingface".into(), value: Some(features) };
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![pair])).build();
    let mut out = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).expect("a file");
    for first in [0, 4] {
        let mut group = file.next_row_group().expect("a group");
        let bytes =
            |texts: Vec<Vec<u8>>| texts.into_iter().map(ByteArray::from).collect::<Vec<_>>();
        let rows = first..first + 4;
        let paths = bytes(rows.clone().map(|i| format!("{i}.png").into_bytes()).collect());
        for (values, there) in
            [(bytes(rows.clone().map(png).collect()), [2; 4]), (paths, [2, 2, 2, 2])]
        {
            let mut column = group.next_column().expect("a column").expect("a column");
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&there), None)
                .expect("written");
            column.close().expect("written");
        }
        let mut column = group.next_column().expect("a column").expect("a column");
        column
            .typed::<Int64Type>()
            .write_batch(&[0, 1, 0], Some(&[1, 1, 0, 1]), None)
            .expect("written");
        column.close().expect("written");
        group.close().expect("written");
    }
    file.close().expect("written");
    out
}

/// WebDataset archives with each kind of labels, as one set and with two sets in folders; long
/// names; and an archive of folders.
pub fn tars() -> Vec<Vec<u8>> {
    let images: Vec<Vec<u8>> = (0..4).map(png).collect();
    let samples = |ending: &str, names: [&str; 4], labels: [&str; 4]| -> Vec<u8> {
        let named = |name: &str| [format!("{name}.png"), format!("{name}.{ending}")];
        let names = names.map(named);
        let mut members = Vec::new();
        for ((name, image), label) in names.iter().zip(&images).zip(&labels) {
            members.push((name[0].as_str(), b'0', &image[..]));
            members.push((name[1].as_str(), b'0', label.as_bytes()));
        }
        plain_tar(&members)
    };
    let flat = ["0", "1", "2", "3"];
    let in_sets = ["train/0", "train/1", "val/0", "val/1"];
    let json = [
        r#"{"label": 3, "width": 8}"#,
        r#"{"cls": "x"}"#,
        r#"{"label": 3}"#,
        r#"{"cls": "x", "label": null}"#,
    ];
    let json = samples("json", flat, [json[0], json[1], json[2], json[1]]);
    let long = format!("{}.png\0", "train/".to_owned() + &"a/".repeat(60) + "9");
    let record = " path=test/a/long.png\n";
    let record = format!("{}{record}", record.len() + 2);
    let odd = plain_tar(&[
        ("./", b'5', b""),
        ("././@LongLink", b'L', long.as_bytes()),
        ("short.png", b'0', &images[0]),
        ("PaxHeaders/x", b'x', record.as_bytes()),
        ("short.png", b'0', &images[1]),
        ("../up.png", b'0', &images[2]),
        ("link.png", b'2', b"/etc/passwd"),
        ("train/._0.png", b'0', b"x"),
    ]);
    let folders = plain_tar(&[
        ("photos/cat/0.png", b'0', &images[0]),
        ("photos/cat/1.png", b'0', &images[1]),
        ("photos/dog/0.png", b'0', &images[2]),
        ("photos/dog/1.png", b'0', &images[3]),
    ]);
    let cls = samples("cls", in_sets, ["0", "1", "1", "0"]);
    let texts = samples("txt", flat, ["cat", "dog", "cat", "dog"]);
    let packed = [gzip(&cls), gzip(&json), gzip(&folders)];
    [cls, json, texts, samples("cls.txt", flat, ["7", "08", "7\n", "8"]), odd, folders]
        .into_iter()
        .chain(packed)
        .collect()
}

pub fn tables() -> Vec<Vec<u8>> {
    [
        ".csv\npath,label,split\na.png,cat,train\n\"b.png\",\"cat\",val\n",
        ".tsv\n\u{feff}File_Name\tclass\tsize\r\n./a.png\t10\t1\r\nb.png\t10\t2\r\n\
         c/../a.png\t9\t\r\nc//../a.png\t9\t3",
        ".csv\nimage;set\na.png;train\nb.png;test\n",
        ".json\n[{\"file\": \"a.png\", \"label\": 3, \"box\": [1, {\"x\": 2}]}, \
         {\"label\": \"3\", \"note\": null, \"file\": \"b.png\"}]",
        ".jsonl\n{\"file_name\": \"a.png\", \"y\": true, \"split\": \"train\"}\n\
         {\"file_name\": \"b.png\", \"y\": true, \"split\": \"test\"}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Returns the files of a gzipped archive of tests/golden/formats by their base names.
fn unpacked(name: &str) -> BTreeMap<String, Vec<u8>> {
    let archive = std::fs::File::open(golden("formats").join(name)).expect("a file");
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(archive)).entries().expect("an archive") {
        let mut entry = entry.expect("an archive");
        let name = entry
            .path()
            .expect("a name")
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("an archive");
        files.insert(name, bytes);
    }
    files
}

/// The files of the Python version of CIFAR-10.
pub static CIFAR_PYTHON: LazyLock<BTreeMap<String, Vec<u8>>> =
    LazyLock::new(|| unpacked("cifar-10-python.tar.gz"));

/// Batches as all versions of Python write them.
pub fn cifar_python() -> Vec<Vec<u8>> {
    let of = |name: &str| &CIFAR_PYTHON[name][..];
    // The test batch of the archive has classes that its training batches lack.
    let first = frame(&[of("data_batch_1"), of("data_batch_5"), of("batches.meta")]);
    let pickles = unpacked("pickles.tar.gz");
    let others =
        pickles.values().map(|batch| frame(&[batch, &pickles["protocol_4"], of("batches.meta")]));
    std::iter::once(first).chain(others).collect()
}

pub fn stl10() -> Vec<Vec<u8>> {
    let image = |salt: usize| (0..3 * 96 * 96).map(|i| (i / 50 + salt) as u8).collect::<Vec<u8>>();
    let names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
    let [first, second] = [image(1), image(2)];
    vec![
        frame(&[&first, &[10], &second, &[10]]),
        frame(&[&[&first[..], &second].concat(), &[1, 2], &second, &[2], names.as_bytes(), &first]),
    ]
}

/// Packs of folders of images, with classes and without, without the padding in their headers.
pub fn packs() -> Vec<Vec<u8>> {
    let pack = |names: &[&str], side: usize| {
        let folder = tempfile::tempdir().expect("a folder");
        for (i, name) in names.iter().enumerate() {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, png(i)).expect("written");
        }
        let pack = written("s.pack", |out| {
            write_pack(folder.path(), side, &Options::default(), out).expect("packed");
        });
        in_safetensors_header(&pack, &mut |header| header.trim_ascii_end().to_vec())
            .expect("a header")
    };
    let classes =
        ["train/cat/0.png", "train/dog/\u{e4}.png", "train/dog/notes.txt", "test/dog/0.png"];
    vec![pack(&classes, 8), pack(&["train/0.png", "test/0.png"], 9)]
}
