use super::*;
use crate::data::formats::tests::{planes, unpack};

fn message(bytes: &[u8]) -> String {
    Pickle::parse(bytes).map(|_| ()).unwrap_err()
}

#[test]
fn reads_what_all_versions_of_python_write() {
    let dir = tempfile::tempdir().unwrap();
    unpack("pickles.tar.gz", dir.path());
    let names = [
        "protocol_2",
        "protocol_3",
        "protocol_4",
        "protocol_5",
        "python_2",
        "texts",
        "column_major",
        "array_of_labels",
        "four_dimensions",
    ];
    for name in names {
        let file = std::fs::read(dir.path().join(name)).unwrap();
        let pickle = Pickle::parse(&file).unwrap_or_else(|e| panic!("{name} {e}"));
        let id = |key: &str| pickle.get(key).unwrap_or_else(|| panic!("{name} has no {key}"));
        assert_eq!(pickle.numbers(id("labels")), Some(vec![5, 1]), "{name}");
        assert_eq!(
            pickle.texts(id("filenames")).unwrap(),
            ["image_s_000000.png", "image_s_000001.png"],
            "{name}"
        );
        let (shape, data) =
            pickle.bytes(id("data")).unwrap_or_else(|| panic!("{name} has no bytes"));
        let expected = if name == "four_dimensions" { vec![2, 3, 32, 32] } else { vec![2, 3072] };
        assert_eq!(
            (shape, &*data),
            (expected, &[planes(0, 32), planes(1, 32)].concat()[..]),
            "{name}"
        );
        assert!(pickle.get("nothing").is_none() && pickle.numbers(id("filenames")).is_none());
        for length in 0..file.len() {
            assert!(Pickle::parse(&file[..length]).is_err(), "{name} cut at {length}");
        }
    }
}

#[test]
fn nothing_is_called() {
    let evil = message(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.");
    assert!(evil.contains("os.system") && evil.contains("nothing was run"), "{evil}");
    let evil = message(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.");
    assert!(evil.contains("builtins.eval"), "{evil}");
    // Known names, used for something else.
    assert!(message(b"\x80\x02cnumpy\ndtype\ncnumpy\ndtype\n\x85R.").contains("impossible"));
    assert!(message(b"\x80\x02cnumpy\nndarray\n)R.").contains("nothing was run"));
    assert!(
        message(b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0hex\x86R.")
            .contains("nothing was run")
    );
    assert!(message(b"\x80\x02}}b.").contains("not an array"));
    assert!(message(b"\x80\x02cnumpy\ndtype\nX\x01\0\0\0O\x85R.").contains("an array of O"));
    // An instruction that creates any object, and one that refers to an external object.
    assert!(message(b"\x80\x02cnumpy\nndarray\n)\x81.").contains("0x81"));
    assert!(message(b"\x80\x02U\x01aQ.").contains("0x51"));
    assert!(message(b"\x80\x00.").contains("protocol 0"));
}

#[test]
fn invalid_pickles_are_refused() {
    for bad in [
        &b""[..],
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02(.",
        b"\x80\x02t.",
        b"\x80\x02h\x07.",
        b"\x80\x02Ne.",
    ] {
        assert!(Pickle::parse(bad).is_err(), "{bad:?}");
    }
    // Lengths far beyond the end.
    for length in [
        &b"T\xff\xff\xff\x7f"[..],
        b"X\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8d\0\0\0\0\0\0\0\x80",
    ] {
        assert_eq!(
            message(&[b"\x80\x02", length, b"abc."].concat()),
            "ends in the middle of its pickle"
        );
    }
    assert!(
        message(&[b"\x80\x02".to_vec(), b"N0".repeat(1 << 21)].concat())
            .contains("more than 4194304 instructions")
    );
}

#[test]
fn recursive_and_deeply_nested_values_are_handled() {
    // A list that contains itself; a dictionary that contains itself.
    let pickle = Pickle::parse(b"\x80\x02}q\0U\x01ah\0sU\x01b]q\x01h\x01as.").unwrap();
    let (a, b) = (pickle.get("a").unwrap(), pickle.get("b").unwrap());
    assert!(pickle.numbers(b).is_none() && pickle.texts(b).is_none() && pickle.bytes(a).is_none());
    let deep = [b"\x80\x02N".to_vec(), b"\x85".repeat(1_000_000), b".".to_vec()].concat();
    assert!(!Pickle::parse(&deep).unwrap().is_dict());
    // A list is counted without reading it.
    let list = Pickle::parse(b"\x80\x02}U\x01a](U\x01xq\0h\0h\0es.").unwrap();
    let a = list.get("a").unwrap();
    assert_eq!(
        (list.length(a), list.length(list.root), list.texts(a).unwrap().len()),
        (Some(3), None, 3)
    );
    // Of two entries with the same key the last one counts, as in Python.
    let twice = Pickle::parse(b"\x80\x02}(U\x01a]K\x01aU\x01a]K\x02au.").unwrap();
    assert_eq!(twice.numbers(twice.get("a").unwrap()), Some(vec![2]));
}

#[test]
fn numbers_of_all_sizes() {
    let of = |bytes: &[u8]| {
        let file = [b"\x80\x02}U\x01a](".as_slice(), bytes, b"es."].concat();
        let pickle = Pickle::parse(&file).unwrap();
        pickle.numbers(pickle.get("a").unwrap())
    };
    assert_eq!(of(b"K\xffM\xff\xffJ\xff\xff\xff\xff\x88\x8a\0"), Some(vec![255, 65535, -1, 1, 0]));
    assert_eq!(
        of(b"\x8a\x02\0\x80\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
        Some(vec![-32768, i64::MAX])
    );
    assert_eq!(of(b"\x8a\x09\0\0\0\0\0\0\0\0\x01"), None);
    assert_eq!(of(b"G\0\0\0\0\0\0\0\0"), None);
}

/// A dictionary with an array under "a" of this type and shape, and the bytes 0, 1, ...
fn array(dtype: &str, order: &str, shape: &[u8], column_major: bool, bytes: u8) -> Vec<u8> {
    let text =
        |text: &str| [b"U".to_vec(), vec![text.len() as u8], text.as_bytes().to_vec()].concat();
    let numbers = |numbers: &[u8]| numbers.iter().flat_map(|n| [b'K', *n]).collect::<Vec<u8>>();
    let data: Vec<u8> = (0..bytes).collect();
    [
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01(".to_vec(),
        numbers(shape),
        b"tcnumpy\ndtype\n".to_vec(),
        text(dtype),
        b"K\0K\x01\x87R(K\x03".to_vec(),
        text(order),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb".to_vec(),
        if column_major { b"\x88".to_vec() } else { b"\x89".to_vec() },
        b"U".to_vec(),
        vec![bytes],
        data,
        b"tbs.".to_vec(),
    ]
    .concat()
}

#[test]
fn arrays_must_agree_with_their_shape() {
    let bytes = |file: &[u8]| {
        let pickle = Pickle::parse(file).unwrap();
        pickle.bytes(pickle.get("a").unwrap()).map(|(shape, data)| (shape, data.into_owned()))
    };
    assert_eq!(
        bytes(&array("u1", "|", &[2, 3], false, 6)),
        Some((vec![2, 3], vec![0, 1, 2, 3, 4, 5]))
    );
    assert_eq!(
        bytes(&array("u1", "|", &[2, 3], true, 6)),
        Some((vec![2, 3], vec![0, 2, 4, 1, 3, 5]))
    );
    assert_eq!(bytes(&array("u1", "|", &[2, 3], false, 7)), None);
    assert_eq!(bytes(&array("i1", "|", &[6], false, 6)), None);
    assert_eq!(bytes(&array("u2", "<", &[3], false, 6)), None);
    assert_eq!(bytes(&array("u1", "|", &[1, 2, 3], true, 6)), None);
    let numbers = |file: &[u8]| {
        let pickle = Pickle::parse(file).unwrap();
        pickle.numbers(pickle.get("a").unwrap())
    };
    assert_eq!(numbers(&array("i2", "<", &[2], false, 4)), Some(vec![256, 770]));
    assert_eq!(numbers(&array("i2", ">", &[2], false, 4)), None);
    assert_eq!(numbers(&array("i2", "<", &[2, 1], false, 4)), None);
    assert!(message(&array("f4", "<", &[1], false, 4)).contains("an array of f4"));
}
