//! Data sets in which few bytes demand much memory: values that are repeated many times, or shared
//! by many rows.

use super::{bound, folder, refused, write};
use crate::memory;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use soda::data::{Options, open};
use std::path::Path;
use std::sync::Arc;

/// Asserts that the data at `place`, which has `length` bytes, is refused.
#[track_caller]
fn open_refused(place: &Path, length: usize, parts: &[&str]) {
    refused(length, parts, || open(Some(place), 32, &Options::default()));
}

#[test]
fn rows_without_the_columns_of_another_row_take_no_memory_for_them() {
    let _alone = memory::alone();
    let folder = folder();
    let columns: String = (0..999).map(|i| format!(",\"c{i}\":1")).collect();
    let first = format!("{{\"path\":\"gone.png\"{columns}}}");
    for (name, text) in [
        ("t.jsonl", format!("{first}\n{}", "{}\n".repeat(20_000))),
        ("t.json", format!("[{first}{}]", ",{}".repeat(20_000))),
        // Only the last of the columns.
        ("t.jsonl", format!("{first}\n{}", "{\"c998\":1}\n".repeat(20_000))),
    ] {
        let place = write(&folder, name, text.as_bytes());
        open_refused(&place, text.len(), &[name, "lists 1 file missing on disk: gone.png"]);
    }
}

/// Returns a gzipped tar archive of these members.
fn archive(members: impl Iterator<Item = (tar::EntryType, String, Vec<u8>)>) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (kind, name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_entry_type(kind);
        header.set_path(name).expect("a short name");
        header.set_cksum();
        tar.append(&header, &content[..]).expect("into memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("into memory")
}

#[test]
fn a_sample_of_many_images_and_labels_takes_no_more_than_both() {
    let _alone = memory::alone();
    let folder = folder();
    let member = |name: &str, content: Vec<u8>| (tar::EntryType::Regular, name.to_owned(), content);
    let labels = (0..1500).map(|_| member("a.cls", vec![b'x'; 100]));
    let bytes = archive(labels.chain((0..1500).map(|_| member("a.png", Vec::new()))));
    open_refused(&write(&folder, "s.tar.gz", &bytes), bytes.len(), &["s.tar.gz holds 1 image"]);
}

#[test]
fn names_longer_than_any_file_has_are_refused() {
    let _alone = memory::alone();
    let folder = folder();
    let name = [&vec![b'a'; (1 << 20) - 20][..], b".png"].concat();
    let pax = [format!("{} path=", name.len() + 14).as_bytes(), &name, b"\n"].concat();
    for (kind, content) in [(tar::EntryType::GNULongName, name), (tar::EntryType::XHeader, pax)] {
        let members = (0..100).flat_map(|_| {
            let image = (tar::EntryType::Regular, "a.png".to_owned(), Vec::new());
            [(kind, "long".to_owned(), content.clone()), image]
        });
        let bytes = archive(members);
        open_refused(
            &write(&folder, "s.tar.gz", &bytes),
            bytes.len(),
            &["s.tar.gz", "a name is too long"],
        );
    }
}

#[test]
fn a_pickle_that_refers_to_one_string_many_times_takes_no_memory_for_each() {
    let _alone = memory::alone();
    let folder = folder();
    let place = folder.path().join("cifar-10-batches-py");
    std::fs::create_dir(&place).expect("a folder");
    // A string of 1,000 bytes in memo slot 0, and a list of references to it.
    let names = [b"X\xe8\x03\0\0", &[b'a'; 1000][..], b"q\0"].concat();
    let list = [b"](".to_vec(), b"h\0".repeat(200_000), b"e".to_vec()].concat();
    let meta = [b"\x80\x02", &names[..], b"0}(U\x0blabel_names", &list, b"u."].concat();
    std::fs::write(place.join("batches.meta"), &meta).expect("written");
    open_refused(&place, meta.len(), &["batches.meta has no list of names under label_names"]);
    std::fs::remove_file(place.join("batches.meta")).expect("removed");
    // Names without images.
    let data = b"cnumpy.core.numeric\n_frombuffer\n(C\0cnumpy\ndtype\nX\x02\0\0\0u1\x85RK\0M\0\x0c\
                 \x86X\x01\0\0\0CtR";
    let batch = [
        b"\x80\x02",
        &names[..],
        b"0}(U\x06labels]U\x04data",
        data,
        b"U\x09filenames",
        &list,
        b"u.",
    ]
    .concat();
    std::fs::write(place.join("data_batch_1"), &batch).expect("written");
    open_refused(&place, batch.len(), &["data_batch_1 has 200000 filenames for 0 labels"]);
}

#[test]
fn a_dictionary_of_one_long_label_for_many_rows_is_refused() {
    let _alone = memory::alone();
    let folder = folder();
    let rows = 50_000;
    let schema = "message m { required group image { required binary bytes; } \
                  required binary label (UTF8); }";
    // The file has at least one byte for each row.
    let pair = KeyValue { key: "x".into(), value: Some("x".repeat(rows)) };
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![pair])).build();
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut file =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).expect("a file");
    let mut group = file.next_row_group().expect("a group");
    for value in [vec![b'x'; 10], vec![b'x'; 4096]] {
        let mut column = group.next_column().expect("a column").expect("a column");
        let values = vec![ByteArray::from(value); rows];
        column.typed::<ByteArrayType>().write_batch(&values, None, None).expect("written");
        column.close().expect("written");
    }
    group.close().expect("written");
    let bytes = file.into_inner().expect("written");
    assert!(bytes.len() < 1 << 20, "{} bytes aren't a bomb", bytes.len());
    assert!(bound(bytes.len()) < 4096 * rows);
    let place = write(&folder, "s.parquet", &bytes);
    open_refused(&place, bytes.len(), &["s.parquet", "labels or paths of a column take more than"]);
}

/// Encodes `n` with seven bits per byte, lowest first.
fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 127 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

#[test]
fn false_footers_of_parquet_files_are_refused() {
    let _alone = memory::alone();
    let folder = folder();
    // A group with its name and number of children; and a column of bytes.
    let group = |name: &str, children: usize| {
        [
            &[0x35, 0, 0x18][..],
            &varint(name.len()),
            name.as_bytes(),
            &[0x15],
            &varint(2 * children),
            &[0],
        ]
        .concat()
    };
    let column = b"\x15\x0c\x25\0\x18\x05bytes\0".to_vec();
    // Version, columns, no rows, no row groups.
    let described = |columns: &[Vec<u8>]| {
        let list = [&[0x19, 0xfc][..], &varint(columns.len()), &columns.concat()].concat();
        [&[0x15, 2][..], &list, &[0x16, 0, 0x19, 0x0c]].concat()
    };
    let plain = [group("m", 1), group("image", 1), column.clone()];
    let nested: Vec<Vec<u8>> =
        (0..100_000).map(|_| group("g", 1)).chain([column.clone()]).collect();
    let long = "g".repeat(1 << 20);
    let named: Vec<Vec<u8>> =
        [group(&long, 1000)].into_iter().chain((0..1000).map(|_| column.clone())).collect();
    // Two billion flags in an unknown field.
    let flags = [&[0x69, 0xf1][..], &varint(0x7fff_ffff)].concat();
    for (footer, part) in [
        (
            described(&[group("m", 1), group("image", 1 << 29), column]),
            "states more columns than it has",
        ),
        (described(&nested), "its columns are nested in too many groups"),
        (described(&named), "or their names are too long"),
        ([described(&plain), flags].concat(), "its footer has a list of flags"),
        // A valid file without rows.
        (described(&plain), "holds 0 images"),
    ] {
        let footer = [&footer[..], b"\0"].concat();
        let bytes = [b"PAR1", &footer[..], &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
        open_refused(&write(&folder, "s.parquet", &bytes), bytes.len(), &["s.parquet", part]);
    }
}
