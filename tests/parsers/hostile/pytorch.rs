//! PyTorch checkpoints: pickles in zip archives.

use super::{folder, refused, write};
use crate::memory;
use flate2::Crc;
use soda::model::futurexiang::{self, Which};

/// Returns a zip archive of stored entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut crc = Crc::new();
        crc.update(content);
        let start = (out.len() as u32).to_le_bytes();
        let size = (content.len() as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        let shared = [
            &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &crc.sum().to_le_bytes(),
            &size,
            &size,
            &length,
            &[0, 0],
        ]
        .concat();
        out.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), content].concat());
        directory
            .extend([b"PK\x01\x02\x14\0", &shared[..], &[0; 10], &start, name.as_bytes()].concat());
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
        // Within the contents of a checkpoint.
        pickle_refused(
            &[b"\x80\x02}X\x03\0\0\0EMA}X\x01\0\0\0a", call, touch, b"\x85Rss."].concat(),
            part,
        );
    }
    // The other instructions that call a function or construct an object.
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
fn pickles_that_expand_to_far_more_than_their_size_take_no_memory() {
    let _alone = memory::alone();
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ";
    let start = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\0(",
        &storage[..],
        b"K\0(K\x01K\x01K\x01K\x01t(K\x01K\x01K\x01K\x01tNNtq\x01",
    ]
    .concat();
    // Five bytes per tensor.
    let tensors = [&start[..], &b"h\0h\x01R".repeat(1_000_000), b"."].concat();
    pickle_refused(&tensors, "more than 65536 tensors");
    pickle_refused(
        &[&b"\x80\x02"[..], &b"N".repeat(7 << 20), b"."].concat(),
        "more than 1048576 values",
    );
    pickle_refused(
        &[&b"\x80\x02"[..], &b"}".repeat(7 << 20), b"."].concat(),
        "more than 1048576 values",
    );
    pickle_refused(&[&b"\x80\x02"[..], &b"(".repeat(8 << 20)].concat(), "more than 8 MiB");
    pickle_refused(&[&b"\x80\x02"[..], &b"(".repeat(7 << 20)].concat(), "ends in the middle");
    pickle_refused(&[&b"\x80\x02]q\0"[..], &b"h\0".repeat(3 << 20), b"."].concat(), "holds no EMA");
    pickle_refused(
        &[&b"\x80\x02]q\0("[..], &b"h\0".repeat(3 << 20), b"t."].concat(),
        "holds no EMA",
    );
    // Deeply nested dictionaries: nothing here recurses into them.
    pickle_refused(
        &[&b"\x80\x02"[..], &b"}X\x01\0\0\0a".repeat(100_000), b"N", &b"s".repeat(100_000), b"."]
            .concat(),
        "holds no EMA",
    );
}

#[test]
fn a_zip_archive_with_false_claims_takes_no_memory() {
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
        changes
            .iter()
            .for_each(|(at, value)| bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes()));
        bytes
    };
    // An entry of nearly 4 GB; two different lengths of one entry; an entry beyond the end; a table
    // of contents of 4 GB, or elsewhere.
    open(
        "entry.pth",
        &with(&[(directory + 20, 0xffff_fff0), (directory + 24, 0xffff_fff0)]),
        "more than 8 MiB",
    );
    open("lengths.pth", &with(&[(directory + 20, 5)]), "two lengths");
    open("beyond.pth", &with(&[(directory + 42, 0xffff_fff0)]), "truncated");
    open("table.pth", &with(&[(end + 12, 0xffff_fff0)]), "table of contents of 4294967280 bytes");
    open("elsewhere.pth", &with(&[(end + 16, 0xffff_fff0)]), "truncated");
    open("large.pth", &with(&[(end + 12, u32::MAX)]), "truncated");
    open(
        "twice.pth",
        &zip(&[("a/data.pkl", b"\x80\x02}."), ("a/data.pkl", b"\x80\x02}.")]),
        "twice",
    );
}
