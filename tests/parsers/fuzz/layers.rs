//! Layers around inputs (gzip, tar, Parquet, PNG, zip, length-prefixed headers), so that mutations
//! reach the contents.

use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, Crc};
use std::io::{Read, Write};

/// The most bytes to unwrap.
const MOST: u64 = 4 << 20;

type Change<'a> = &'a mut dyn FnMut(&[u8]) -> Vec<u8>;

pub fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).expect("into memory");
    out.finish().expect("into memory")
}

fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).take(MOST).read_to_end(&mut out).ok().map(|_| out)
}

/// The contents of a gzip file.
pub fn in_gzip(input: &[u8], change: Change) -> Option<Vec<u8>> {
    Some(gzip(&change(&gunzip(input)?)))
}

/// A gzipped tar archive; the checksums of its headers are corrected.
pub fn in_tar(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let mut tar = change(&gunzip(input)?);
    tar_headers(&mut tar);
    Some(gzip(&tar))
}

/// Corrects the checksums of the headers of a tar archive; returns the headers' positions. The
/// blocks of zeros at its end aren't headers.
fn tar_headers(tar: &mut [u8]) -> Vec<usize> {
    let (mut at, mut places) = (0usize, Vec::new());
    while let Some(header) = tar.get_mut(at..at + 512) {
        let mut size = 0;
        if header.iter().any(|byte| *byte != 0) {
            places.push(at);
            size = set_tar_checksum(header);
        }
        at += 512 + size.next_multiple_of(512);
    }
    places
}

/// Corrects a tar header's checksum; returns the size that it claims.
pub fn set_tar_checksum(header: &mut [u8]) -> usize {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let digits = header[124..136].iter().take_while(|b| (b'0'..b'8').contains(b));
    digits.fold(0usize, |n, digit| n * 8 + usize::from(digit - b'0')).min(MOST as usize)
}

/// Unpacks a gzipped tar archive; returns it and the position of one member's header. The choice
/// depends only on the archive, so that the same input gives the same member.
fn some_member(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut tar = gunzip(input)?;
    let places = tar_headers(&mut tar);
    let at = *places.get(crc(&[input]) as usize % places.len().max(1))?;
    Some((tar, at))
}

/// The header of one member of a gzipped tar archive.
pub fn in_tar_header(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (mut tar, at) = some_member(input)?;
    let mut header = change(&tar[at..at + 512]);
    header.resize(512, 0);
    set_tar_checksum(&mut header);
    tar[at..at + 512].copy_from_slice(&header);
    Some(gzip(&tar))
}

/// The content of a member of a gzipped tar archive; its size is corrected.
pub fn in_tar_member(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (mut tar, at) = some_member(input)?;
    let (start, size) = (at + 512, set_tar_checksum(&mut tar[at..at + 512]));
    let mut content = change(tar.get(start..start.checked_add(size)?)?);
    tar[at + 124..at + 136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    set_tar_checksum(&mut tar[at..at + 512]);
    content.resize(content.len().next_multiple_of(512), 0);
    let end = (start + size.next_multiple_of(512)).min(tar.len());
    tar.splice(start..end, content);
    Some(gzip(&tar))
}

/// Applies a layer of gzipped tar archives to a tar archive, gzipped or not.
pub fn in_any_tar(input: &[u8], layer: super::engine::Layer, change: Change) -> Option<Vec<u8>> {
    if input.starts_with(&[0x1f, 0x8b]) {
        layer(input, change)
    } else {
        gunzip(&layer(&gzip(input), change)?)
    }
}

/// The footer of a Parquet file; its length is corrected.
pub fn in_parquet_footer(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (pages, footer, magic) = parquet_parts(input)?;
    let footer = change(footer);
    Some([pages, &footer, &(footer.len() as u32).to_le_bytes(), magic].concat())
}

/// The pages of a Parquet file, which keep the positions that its footer states.
pub fn in_parquet_pages(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (pages, ..) = parquet_parts(input)?;
    let mut changed = change(pages);
    changed.resize(pages.len(), 0);
    Some([&changed, &input[pages.len()..]].concat())
}

/// Splits a Parquet file into what precedes the footer, the footer, and the final bytes.
fn parquet_parts(input: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (rest, magic) = input.split_last_chunk::<4>()?;
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let (pages, footer) =
        rest.split_at_checked(rest.len().checked_sub(u32::from_le_bytes(*length) as usize)?)?;
    Some((pages, footer, magic))
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Splits a PNG into chunks: type and content.
fn chunks(png: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut rest = png.strip_prefix(PNG)?;
    let mut out = Vec::new();
    while rest.len() >= 12 {
        let length = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        let length = length.min(rest.len() - 12);
        out.push((&rest[4..8], &rest[8..8 + length]));
        rest = &rest[12 + length..];
    }
    Some(out)
}

fn join(chunks: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = PNG.to_vec();
    for (kind, content) in chunks {
        out.extend((content.len() as u32).to_be_bytes());
        out.extend_from_slice(kind);
        out.extend_from_slice(content);
        out.extend(crc(&[kind, content]).to_be_bytes());
    }
    out
}

/// The chunks of a PNG; their checksums are corrected.
pub fn in_png_chunks(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let plain: Vec<u8> = chunks(input)?
        .iter()
        .flat_map(|(kind, content)| {
            [&(content.len() as u32).to_be_bytes()[..], kind, content, &[0; 4]].concat()
        })
        .collect();
    let changed = [PNG, &change(&plain)].concat();
    Some(join(&chunks(&changed)?))
}

/// The first chunk of a PNG: its size and kind.
pub fn in_png_header(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let mut all = chunks(input)?;
    let header = change(all.first()?.1);
    all[0].1 = &header;
    Some(join(&all))
}

/// The pixels of a PNG inside the compression, filter bytes included.
pub fn in_png_pixels(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let all = chunks(input)?;
    let data: Vec<u8> = all.iter().filter(|c| c.0 == b"IDAT").flat_map(|c| c.1).copied().collect();
    let mut pixels = Vec::new();
    ZlibDecoder::new(&data[..]).take(MOST).read_to_end(&mut pixels).ok()?;
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&change(&pixels)).expect("into memory");
    let packed = packed.finish().expect("into memory");
    let before = all.iter().take_while(|c| c.0 != b"IDAT");
    let after = all.iter().skip_while(|c| c.0 != b"IDAT").filter(|c| c.0 != b"IDAT");
    let new: Vec<(&[u8], &[u8])> =
        before.copied().chain([(&b"IDAT"[..], &packed[..])]).chain(after.copied()).collect();
    Some(join(&new))
}

/// Returns a zip archive of stored entries, as torch.save writes it.
pub fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let start = out.len() as u32;
        let [sum, size] = [crc(&[content]), content.len() as u32].map(u32::to_le_bytes);
        let name_length = (name.len() as u16).to_le_bytes();
        // Version, flags, method, time and date; checksum and both sizes; lengths of the name and
        // of extra fields.
        let shared =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &sum, &size, &size, &name_length, &[0, 0]]
                .concat();
        out.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), content].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0", &shared[..], &[0; 10], &start.to_le_bytes(), name.as_bytes()]
                .concat(),
        );
    }
    let [start, size] = [out.len() as u32, directory.len() as u32].map(u32::to_le_bytes);
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06", &[0; 4][..], &count, &count, &size, &start, &[0, 0]].concat());
    out
}

/// Returns the entries of an archive from [`zip`], using their local headers.
fn unzip(mut rest: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    while let Some(after) = rest.strip_prefix(b"PK\x03\x04") {
        let at = |place: usize| {
            Some(usize::from(u16::from_le_bytes([*after.get(place)?, *after.get(place + 1)?])))
        };
        let (size, name, extra) = (at(14)? | at(16)? << 16, at(22)?, at(24)?);
        let start = 26 + name + extra;
        out.push((
            String::from_utf8(after.get(26..26 + name)?.to_vec()).ok()?,
            after.get(start..start + size)?.to_vec(),
        ));
        rest = &after[start + size..];
    }
    (!out.is_empty()).then_some(out)
}

/// The pickle of a checkpoint.
pub fn in_pickle(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let mut entries = unzip(input)?;
    let pickle = entries.iter_mut().find(|(name, _)| name.ends_with("data.pkl"))?;
    pickle.1 = change(&pickle.1);
    Some(zip(&entries))
}

/// A pickle of an array without its middle, which is pixels.
pub fn around_pixels(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (start, end) = (input.get(..300)?, input.len().checked_sub(300)?.max(300));
    let changed = change(&[start, &input[end..]].concat());
    let (start, rest) = changed.split_at_checked(300)?;
    Some([start, &input[300..end], rest].concat())
}

/// All entries of a checkpoint but the pickle, concatenated; the last one absorbs a change in
/// length.
pub fn in_storages(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let mut entries = unzip(input)?;
    let others = || |e: &&mut (String, Vec<u8>)| !e.0.ends_with("data.pkl");
    let all: Vec<u8> = entries.iter_mut().filter(others()).flat_map(|e| e.1.clone()).collect();
    let changed = change(&all);
    let mut rest = &changed[..];
    let count = entries.iter_mut().filter(others()).count();
    for (i, entry) in entries.iter_mut().filter(others()).enumerate() {
        let length = if i + 1 == count { rest.len() } else { entry.1.len().min(rest.len()) };
        entry.1 = rest[..length].to_vec();
        rest = &rest[length..];
    }
    Some(zip(&entries))
}

/// The JSON header of a safetensors file; its length is corrected.
pub fn in_safetensors_header(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (length, rest) = input.split_first_chunk::<8>()?;
    let (header, data) =
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header = change(header);
    Some([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
}

/// The last bytes of a safetensors file; their number is kept.
pub fn in_safetensors_end(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let (start, end) = input.split_at_checked(input.len().checked_sub(256)?)?;
    let mut changed = change(end);
    changed.resize(end.len(), 0);
    Some([start, &changed].concat())
}

/// The recipe in the header of a weights file.
pub fn in_recipe(input: &[u8], change: Change) -> Option<Vec<u8>> {
    in_metadata(input, "config", change)
}

/// A text in the metadata of a safetensors file.
pub fn in_metadata(input: &[u8], key: &str, change: Change) -> Option<Vec<u8>> {
    let mut done = false;
    let out = in_safetensors_header(input, &mut |header: &[u8]| {
        let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(header) else {
            return header.to_vec();
        };
        let Some(value) = json.get_mut("__metadata__").and_then(|metadata| metadata.get_mut(key))
        else {
            return header.to_vec();
        };
        let Some(text) = value.as_str().map(str::to_owned) else { return header.to_vec() };
        *value = String::from_utf8_lossy(&change(text.as_bytes())).into();
        done = true;
        json.to_string().into_bytes()
    });
    out.filter(|_| done)
}

/// The header of a `.npy` file; its length is corrected.
pub fn in_npy_header(input: &[u8], change: Change) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes([*input.get(8)?, *input.get(9)?]));
    let (header, data) = input.get(10..)?.split_at_checked(length)?;
    let header = change(header);
    Some([&input[..8], &(header.len() as u16).to_le_bytes(), &header, data].concat())
}

/// Joins several files into one input, each preceded by its length in four bytes.
pub fn frame(files: &[&[u8]]) -> Vec<u8> {
    files.iter().flat_map(|file| [&(file.len() as u32).to_le_bytes()[..], file].concat()).collect()
}

/// Splits an input from [`frame`] into its files; a length that is too large is cut to what is
/// there.
pub fn unframe(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = (u32::from_le_bytes(*length) as usize).min(after.len());
        out.push(&after[..length]);
        rest = &after[length..];
    }
    out
}

/// Applies `layer` to file `index` of a frame.
pub fn in_frame(
    input: &[u8],
    index: usize,
    layer: super::engine::Layer,
    change: Change,
) -> Option<Vec<u8>> {
    let files = unframe(input);
    let new = layer(files.get(index)?, change)?;
    let all: Vec<&[u8]> =
        files.iter().enumerate().map(|(i, file)| if i == index { &new } else { *file }).collect();
    Some(frame(&all))
}

/// The whole content.
pub fn whole(input: &[u8], change: Change) -> Option<Vec<u8>> {
    Some(change(input))
}
