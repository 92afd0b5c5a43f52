use super::*;
use crate::eval::features::Features;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

const ROWS: usize = 70_001;

/// More values than one piece of reading, and an odd number of them.
fn features(rows: usize, dim: usize) -> Features {
    let value = |i: u64| (crate::rng::mix(i) % 2_000_001) as f32 / 1e6 - 1.0;
    let labels = (0..rows as u64).map(|i| (crate::rng::mix(i ^ 77) % 1000) as u16).collect();
    Features { dim, values: (0..(rows * dim) as u64).map(value).collect(), labels }
}

/// Writes `features` in pieces of unequal size.
fn write(path: &Path, features: &Features) {
    let metadata = BTreeMap::from([("features".to_owned(), "z".to_owned())]);
    let mut writer = Writer::create(path, features.dim, Some(&features.labels), metadata).unwrap();
    for piece in features.values.chunks(features.dim * 999) {
        writer.append(piece).unwrap();
    }
    writer.finish().unwrap();
}

/// Writes a `.npy` file with this header and data.
fn npy(
    folder: &TempDir,
    name: &str,
    dtype: &str,
    fortran: &str,
    shape: &str,
    data: &[u8],
) -> PathBuf {
    let text = format!("{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes().chain(data.iter().copied()));
    put(folder, name, &bytes)
}

fn safetensors(folder: &TempDir, name: &str, header: &str, data: &[u8]) -> PathBuf {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes().chain(data.iter().copied()));
    put(folder, name, &bytes)
}

fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn bytes<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    values.into_iter().flatten().collect()
}

/// Returns the error of reading, which must be one sentence that names the file.
#[track_caller]
fn refused(features: &Path, labels: Option<&Path>) -> String {
    let message = read(features, labels).expect_err("refused").to_string();
    assert!(
        !message.contains('\n') && message.contains(&*features.parent().unwrap().to_string_lossy()),
        "{message}"
    );
    message
}

#[test]
fn both_formats_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (rows, dim) in [(ROWS, 3), (1, 1), (5, 128)] {
        let want = features(rows, dim);
        for name in ["f.npy", "f.safetensors"] {
            write(&at(name), &want);
        }
        write_labels(&at("l.npy"), &want.labels).unwrap();
        assert_eq!(read(&at("f.npy"), Some(&at("l.npy"))).unwrap(), want);
        assert_eq!(read(&at("f.safetensors"), None).unwrap(), want);
        // Labels of one file for the features of the other.
        assert_eq!(read(&at("f.npy"), Some(&at("f.safetensors"))).unwrap(), want);
        // The safetensors crate reads the file, the data is aligned, and the folder holds nothing
        // else.
        let file = std::fs::read(at("f.safetensors")).unwrap();
        let (length, header) = safetensors::SafeTensors::read_metadata(&file).unwrap();
        assert_eq!(header.offset_keys(), ["labels", "features"]);
        assert_eq!((length + 8) % 64, 0);
        assert_eq!(header.metadata().as_ref().unwrap()["features"], "z");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    // Writing is deterministic.
    let before = std::fs::read(at("f.safetensors")).unwrap();
    write(&at("f.safetensors"), &features(5, 128));
    assert_eq!(std::fs::read(at("f.safetensors")).unwrap(), before);
}

#[test]
fn a_writer_that_does_not_finish_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(&folder, "f.npy", b"before");
    let mut writer = Writer::create(&path, 2, None, BTreeMap::new()).unwrap();
    writer.append(&[1.0, 2.0]).unwrap();
    let message = writer.append(&[1.0, 2.0, 3.0, f32::NAN]).unwrap_err().to_string();
    assert!(message.contains("features of image 2 hold NaN"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    drop(writer);
    assert_eq!(
        (std::fs::read_dir(folder.path()).unwrap().count(), std::fs::read(&path).unwrap()),
        (1, b"before".to_vec())
    );
    assert_eq!(
        Writer::create(Path::new("f.csv"), 2, None, BTreeMap::new()).err().unwrap().exit_code(),
        2
    );
    assert!(Writer::create(&folder.path().join("gone/f.npy"), 2, None, BTreeMap::new()).is_err());
    assert_eq!(
        write_labels(&folder.path().join("l.safetensors"), &[1]).unwrap_err().exit_code(),
        2
    );
}

#[test]
fn every_type_and_order_of_numbers_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let values = [0.5f32, -2.0, 1.0, 0.0, 3.0, -0.25];
    let f16 = |v: f32| burn::tensor::f16::from_f32(v);
    let (little, big) = (bytes(values.map(f32::to_le_bytes)), bytes(values.map(f32::to_be_bytes)));
    let turned = bytes([0, 2, 4, 1, 3, 5].map(|i: usize| values[i].to_le_bytes()));
    let files = [
        npy(&folder, "a.npy", "'<f4'", "False", "(3, 2)", &little),
        npy(&folder, "b.npy", "'>f4'", "False", "(3, 2)", &big),
        npy(
            &folder,
            "c.npy",
            "'<f8'",
            "False",
            "(3, 2)",
            &bytes(values.map(|v| f64::from(v).to_le_bytes())),
        ),
        npy(
            &folder,
            "d.npy",
            "'<f2'",
            "False",
            "(3, 2)",
            &bytes(values.map(|v| f16(v).to_le_bytes())),
        ),
        npy(&folder, "e.npy", "'<f4'", "True", "(3, 2)", &turned),
        safetensors(
            &folder,
            "f.safetensors",
            r#"{"anything":{"dtype":"BF16","shape":[3,2],"data_offsets":[0,12]},"more":{"dtype":"U8","shape":[1],"data_offsets":[12,13]}}"#,
            &[&bytes(values.map(|v| burn::tensor::bf16::from_f32(v).to_le_bytes()))[..], &[9]]
                .concat(),
        ),
    ];
    let labels = [
        npy(&folder, "l1.npy", "'|u1'", "False", "(3,)", &[0, 7, 200]),
        npy(
            &folder,
            "l2.npy",
            "'<i2'",
            "False",
            "(3, 1)",
            &bytes([0i16, 7, 200].map(i16::to_le_bytes)),
        ),
        npy(
            &folder,
            "l3.npy",
            "'>i8'",
            "False",
            "(3,)",
            &bytes([0i64, 7, 200].map(i64::to_be_bytes)),
        ),
        npy(
            &folder,
            "l4.npy",
            "'<u4'",
            "True",
            "(3,)",
            &bytes([0u32, 7, 200].map(u32::to_le_bytes)),
        ),
    ];
    for file in &files {
        for of in &labels {
            let got = read(file, Some(of)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(
                got,
                Features { dim: 2, values: values.to_vec(), labels: vec![0, 7, 200] },
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn files_without_features_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let labels =
        npy(&folder, "l.npy", "'<i8'", "False", "(3,)", &bytes([0i64; 3].map(i64::to_le_bytes)));
    let of = |values: &[f32]| bytes(values.iter().map(|v| v.to_le_bytes()));
    let three = of(&[1.0, 2.0, 3.0]);
    let longer = [&three[..], &[0]].concat();
    let deep = "(".repeat(9000);
    for (i, (dtype, shape, data, why)) in [
        ("'<f4'", "(3, 1)", &three[..8], "is truncated"),
        ("'<f4'", "(3, 1)", &longer, "has 1 extra bytes"),
        ("'<f4'", "(4000000000, 4)", &three, "is truncated"),
        ("'<f4'", "(18446744073709551615, 18446744073709551615)", &three, "is damaged"),
        ("'<f4'", "(99999999999999999999, 1)", &three, "is damaged"),
        ("'<f4'", "(3,)", &three, "shape [3]"),
        ("'<f4'", "(0, 3)", &[], "shape [0, 3]"),
        ("'<f4'", "(1, 3, 1)", &three, "shape [1, 3, 1]"),
        ("'<i4'", "(3, 1)", &three, "holds integers"),
        ("'<c8'", "(3, 1)", &three, "type <c8"),
        ("'|O'", "(3, 1)", &three, "type |O"),
        ("[('a', '<f4')]", "(3, 1)", &three, "records"),
        ("'<f4'", "(3, 1", &three, "is damaged"),
        ("'<f4'", &deep, &three, "is damaged"),
        ("'<f4'", "(3, 1)", &of(&[1.0, f32::NAN, 3.0]), "NaN in row 1, column 0"),
        ("'<f8'", "(1, 3)", &bytes([1.0f64, 2.0, 1e300].map(f64::to_le_bytes)), "row 0, column 2"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = npy(&folder, &format!("f{i}.npy"), dtype, "False", shape, data);
        let message = refused(&file, Some(&labels));
        assert!(message.contains(why), "{dtype} {shape}: {message}");
    }
    // In Fortran order too, the error names the row and column of the first bad value.
    let turned =
        npy(&folder, "t.npy", "'<f4'", "True", "(2, 2)", &of(&[1.0, f32::INFINITY, 3.0, 4.0]));
    assert!(refused(&turned, None).contains("inf in row 1, column 0"));

    let header = |text: &str| safetensors(&folder, "s.safetensors", text, &three);
    for (text, why) in [
        (r#"{"features":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}}"#, "is truncated"),
        (r#"{"features":{"dtype":"F32","shape":[3,2],"data_offsets":[0,12]}}"#, "is damaged"),
        (
            r#"{"features":{"dtype":"F32","shape":[1000000000,100000000],"data_offsets":[0,400000000000000000]}}"#,
            "is truncated",
        ),
        (
            r#"{"features":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,12]}}"#,
            "is damaged",
        ),
        (r#"{"features":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]}"#, "is damaged"),
        (
            r#"{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]}}"#,
            "it holds a, b",
        ),
        (
            r#"{"features":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]}}"#,
            "no tensor \"labels\"; it holds features",
        ),
        (r#"{"features":{"dtype":"BOOL","shape":[12,1],"data_offsets":[0,12]}}"#, "BOOL"),
        ("{}", "has 12 extra bytes"),
    ] {
        let message = refused(&header(text), None);
        assert!(message.contains(why), "{text}: {message}");
    }

    for (name, bytes, why) in [
        ("a.npy", &b"\x80\x04cposix\nsystem\n"[..], "is not a .npy file"),
        ("b.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'", "claims 4294967295 bytes"),
        ("c.npy", b"\x93NUMPY\x01\x00", "is damaged"),
        ("d.npy", b"", "is damaged"),
        ("e.safetensors", b"\xff\xff\xff\xff\x00\x00\x00\x00{}", "claims 4294967295 bytes"),
        ("f.safetensors", b"\xff\x00", "is damaged"),
    ] {
        let message = refused(&put(&folder, name, bytes), None);
        assert!(message.contains(why), "{name}: {message}");
    }
    assert_eq!(read(&put(&folder, "f.txt", b"1 2 3"), None).unwrap_err().exit_code(), 2);
    assert!(refused(&folder.path().join("gone.npy"), None).contains("check the path"));
}

#[test]
fn invalid_labels_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let features = npy(
        &folder,
        "f.npy",
        "'<f4'",
        "False",
        "(3, 1)",
        &bytes([1.0f32, 2.0, 3.0].map(f32::to_le_bytes)),
    );
    for (i, (dtype, shape, data, why)) in [
        ("'<i8'", "(2,)", bytes([0i64, 1].map(i64::to_le_bytes)), "2 labels, and"),
        ("'<i8'", "(3,)", bytes([0i64, -1, 2].map(i64::to_le_bytes)), "label -1 at index 1"),
        (
            "'<u8'",
            "(3,)",
            bytes([0u64, 1, u64::MAX].map(u64::to_le_bytes)),
            "label 18446744073709552000 at index 2",
        ),
        ("'<i4'", "(3,)", bytes([0i32, 65536, 2].map(i32::to_le_bytes)), "label 65536 at index 1"),
        ("'<f4'", "(3,)", bytes([0.0f32, 1.0, 2.0].map(f32::to_le_bytes)), "floating-point"),
        ("'<i2'", "(3, 2)", bytes([0i16; 6].map(i16::to_le_bytes)), "shape [3, 2]"),
        ("'|b1'", "(3,)", vec![0; 3], "type |b1"),
    ]
    .into_iter()
    .enumerate()
    {
        let labels = npy(&folder, &format!("l{i}.npy"), dtype, "False", shape, &data);
        let message = refused(&features, Some(&labels));
        assert!(message.contains(&format!("l{i}.npy")) && message.contains(why), "{message}");
    }
    assert!(refused(&features, None).contains("holds no labels; give a file of labels"));
}

/// The library's parser tries each bracket several times: 15 nested brackets, in a file of 300
/// bytes, kept it busy for minutes, and 8 with a long number for seconds.
#[test]
fn nested_brackets_in_a_header_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for bracket in ["{", "(", "[", "{[(", "[("] {
        for (times, digits) in [(1, 0), (8, 0), (8, 9000), (30, 100), (3000, 0)] {
            let (brackets, digits) = (bracket.repeat(times), "9".repeat(digits));
            let header = format!(
                "{{'descr': '<f4', 'fortran_order': {brackets}{digits}False, 'shape': 3, }}"
            );
            let length = (header.len() as u16).to_le_bytes();
            let path = put(
                &folder,
                "f.npy",
                &[b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat(),
            );
            let start = std::time::Instant::now();
            let message = refused(&path, None);
            assert!(message.contains("damaged"), "{message}");
            assert!(
                start.elapsed().as_secs_f64() < 2.0,
                "{bracket} {times} times took {:?}",
                start.elapsed()
            );
        }
    }
}
