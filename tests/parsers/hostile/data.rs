//! Archives, files of the data set and images.

use super::{bound, folder, refused, refused_within, write};
use crate::memory;
use flate2::{Compress, Compression, Crc, FlushCompress};
use soda::data::picture::read_picture;
use soda::data::{cifar, source};
use std::time::Duration;

/// Returns a tar header.
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

/// Returns `start` and `mebibytes` of zeros, gzipped: one mebibyte is compressed, and the result
/// repeated.
fn gzip(start: &[u8], mebibytes: usize) -> Vec<u8> {
    let mut packer = Compress::new(Compression::best(), false);
    let mut pack = |bytes: &[u8], flush: FlushCompress| {
        let mut out = Vec::with_capacity(bytes.len() + 1024);
        packer.compress_vec(bytes, &mut out, flush).expect("packed");
        out
    };
    // After a full flush nothing refers to earlier data.
    let mut out = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", &pack(start, FlushCompress::Full)[..]].concat();
    let mut crc = Crc::new();
    crc.update(start);
    let zeros = vec![0; 1 << 20];
    if mebibytes > 0 {
        let block = pack(&zeros, FlushCompress::Full);
        (0..mebibytes).for_each(|_| out.extend_from_slice(&block));
    }
    out.extend(pack(b"", FlushCompress::Finish));
    // The checksum is right only without zeros; with them no reader gets this far.
    out.extend(crc.sum().to_le_bytes());
    out.extend((start.len() as u32).to_le_bytes());
    out
}

/// Asserts that `soda data import` refuses the bytes and leaves nothing behind.
#[track_caller]
fn import_refused(bytes: &[u8], memory: usize, parts: &[&str]) {
    let folder = folder();
    let archive = write(&folder, "a.tar.gz", bytes);
    let root = folder.path().join("data");
    // Half a gigabyte is unpacked before an archive is rejected.
    let time = Duration::from_secs(if parts[0].contains("MiB") { 30 } else { 2 });
    refused_within(time, memory, &[&["a.tar.gz"], parts].concat(), || {
        source::import(&archive, &root)
    });
    let mut left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|e| e.expect("readable").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["a.tar.gz"], "something was left");
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
fn archives_that_unpack_to_far_more_than_their_size_take_no_memory() {
    let _alone = memory::alone();
    let many = 600;
    for (name, kind, part) in [
        // An unwanted member of the npm package, a long name, an extended header: all are skipped.
        ("package/other", b'0', "more than 512 MiB"),
        ("pax", b'x', "more than 512 MiB"),
        // Wanted members of the wrong size.
        ("package/data_batch_1.png", b'0', "size it should have"),
        ("cifar-10-batches-bin/data_batch_1.bin", b'0', "bytes instead of"),
        ("cifar-10-batches-bin/other", b'0', "the official archive does not"),
        ("././@LongLink", b'L', "neither the official"),
    ] {
        let bytes = gzip(&header(name, kind, 8 << 30, ""), many);
        assert!(bytes.len() < 1 << 20, "{} bytes aren't a bomb", bytes.len());
        import_refused(&bytes, bound(bytes.len()), &[part]);
    }
    // More data than the size of a member claims.
    let bytes = gzip(&header("package/data_batch_1.png", b'0', 20 << 20, ""), 1);
    import_refused(&bytes, bound(bytes.len()), &["cannot be unpacked"]);
}

/// Returns a PNG whose header claims `width` x `height` pixels, with little data.
fn png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8]| {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(content);
        [&(content.len() as u32).to_be_bytes()[..], kind, content, &crc.sum().to_be_bytes()]
            .concat()
    };
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    // An empty deflate stream.
    [
        b"\x89PNG\r\n\x1a\n",
        &chunk(b"IHDR", &head)[..],
        &chunk(b"IDAT", b"\x78\x9c\x03\0\0\0\0\x01"),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

#[test]
fn an_archive_with_images_that_claim_too_much_takes_no_memory() {
    let _alone = memory::alone();
    let member = |name: &str, content: &[u8]| {
        let mut out =
            [header(&format!("package/{name}"), b'0', content.len() as u64, ""), content.to_vec()]
                .concat();
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    let labels = |n: usize| format!("[{}]", vec!["0"; n].join(","));
    let mut tar = [
        member("train_lables.json", labels(50_000).as_bytes()),
        member("test_lables.json", labels(10_000).as_bytes()),
    ]
    .concat();
    for stem in [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ] {
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
    // A sparse file of 64 GiB.
    let file = std::fs::File::create(place.join("data_batch_1.bin")).expect("a file");
    file.set_len(64 << 30).expect("a long file");
    refused(0, &["data_batch_1.bin has 68719476736 bytes instead of 30730000"], || {
        soda::data::open(Some(&place), 32, &Default::default())
    });
    refused(0, &["data_batch_1.bin has 68719476736 bytes"], || cifar::verify(&place));
}

#[test]
fn images_that_claim_too_much_or_nothing_are_refused() {
    let _alone = memory::alone();
    let folder = folder();
    let refused = |name: &str, bytes: &[u8], part: &str| {
        let path = write(&folder, name, bytes);
        refused(bytes.len(), &[name, part], || read_picture(&path, 32));
    };
    refused("bomb.png", &png(60_000, 60_000), "too large");
    refused("wide.png", &png(u32::MAX, 1), "");
    refused("wide.png", &png(0x7fff_ffff, 0x7fff_ffff), "too large");
    refused("zero.png", &png(0, 0), "");
    refused("zero.png", &png(0, 32), "");
    let gif = |width: u16, height: u16| {
        [b"GIF89a", &width.to_le_bytes()[..], &height.to_le_bytes(), &[0, 0, 0, 0x3b]].concat()
    };
    refused("bomb.gif", &gif(65_535, 65_535), "");
    refused("zero.gif", &gif(0, 0), "");
    let bmp = |width: i32, height: i32| {
        let sizes = [54u32, 40].map(u32::to_le_bytes);
        let rest = [[1u16, 24].map(u16::to_le_bytes).concat(), vec![0; 24]].concat();
        [
            b"BM\0\0\0\0\0\0\0\0",
            &sizes.concat()[..],
            &width.to_le_bytes(),
            &height.to_le_bytes(),
            &rest,
        ]
        .concat()
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
    refused("bomb.webp", &webp(16_000, 16_000), "too large");
}

#[test]
fn an_animation_is_read_as_its_first_frame() {
    let _alone = memory::alone();
    let folder = folder();
    let frame = |value: u8| {
        image::Frame::new(image::RgbaImage::from_pixel(
            32,
            32,
            image::Rgba([value, value, value, 255]),
        ))
    };
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    encoder.encode_frames([frame(40), frame(200), frame(250)]).expect("a GIF");
    drop(encoder);
    let pixels = read_picture(&write(&folder, "a.gif", &bytes), 32).expect("a picture");
    assert!(pixels.iter().all(|p| p.abs_diff(40) <= 2), "{:?}", &pixels[..9]);
    // Later frames aren't read, whatever they contain.
    let cut = &bytes[..bytes.len() / 2];
    assert_eq!(
        read_picture(&write(&folder, "b.gif", cut), 32).expect("its first frame is whole"),
        pixels
    );
}
