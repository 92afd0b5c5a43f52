//! The zip archive that torch.save writes: stored (uncompressed) entries with distinct names. Every
//! length is checked against that of the file before memory is allocated.

use flate2::Crc;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// A result whose error is the rest of a sentence that begins with the file's name.
pub type Result<T> = std::result::Result<T, String>;

/// The longest table of contents that is read, in bytes; that of 100,000 tensors is shorter.
const LONGEST_DIRECTORY: u64 = 16 << 20;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;
const DIRECTORY_END_64: u32 = 0x0606_4b50;
const DIRECTORY_LOCATOR_64: u32 = 0x0706_4b50;

/// An open archive.
pub struct Archive {
    file: File,
    length: u64,
    entries: HashMap<String, Entry>,
}

/// A file in the archive.
#[derive(Clone, Copy)]
struct Entry {
    header: u64,
    size: u64,
    crc: u32,
}

impl Archive {
    /// Reads the table of contents of `file`.
    pub fn open(mut file: File) -> Result<Self> {
        let length = file.seek(SeekFrom::End(0)).map_err(|e| format!("can't be read ({e})"))?;
        let mut archive = Self { file, length, entries: HashMap::new() };
        let (start, size) = archive.find_directory()?;
        if size > LONGEST_DIRECTORY {
            return Err(format!(
                "has a table of contents of {size} bytes; that of a checkpoint is far shorter"
            ));
        }
        let directory = archive.bytes(start, size)?;
        let mut at = 0;
        while at < directory.len() {
            let (name, entry, length) = parse_entry(&directory[at..])?;
            at += length;
            if archive.entries.insert(name.clone(), entry).is_some() {
                return Err(format!("holds {name} twice"));
            }
        }
        Ok(archive)
    }

    /// Returns the names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the size in bytes of the entry `name`.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// Reads the entry `name` and verifies its checksum.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let Some(Entry { header, size, crc }) = self.entries.get(name).copied() else {
            return Err(format!("holds no {name}"));
        };
        let local = self.bytes(header, 30)?;
        if u32_at(&local, 0) != LOCAL_HEADER {
            return Err(format!("is damaged ({name} isn't where it should be); copy it again"));
        }
        let start = header + 30 + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        let bytes = self.bytes(start, size)?;
        let mut sum = Crc::new();
        sum.update(&bytes);
        if sum.sum() != crc {
            return Err(format!("is damaged (the checksum of {name} is wrong); copy it again"));
        }
        Ok(bytes)
    }

    /// Reads `size` bytes from `start` on, which must lie within the file. This way a false length
    /// in a hostile header allocates no memory.
    fn bytes(&mut self, start: u64, size: u64) -> Result<Vec<u8>> {
        if start.checked_add(size).is_none_or(|end| end > self.length) {
            return Err(TRUNCATED.into());
        }
        let failed = |e: std::io::Error| format!("can't be read ({e})");
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| TRUNCATED.to_owned())?];
        self.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        self.file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Finds the start and length of the table of contents from the record at the end of the file.
    fn find_directory(&mut self) -> Result<(u64, u64)> {
        // The record is 22 bytes long and may be followed by a comment of up to 65,535 bytes.
        let tail_length = self.length.min(22 + 0xffff);
        let tail_start = self.length - tail_length;
        let tail = self.bytes(tail_start, tail_length)?;
        let end = (0..(tail.len() + 1).saturating_sub(22))
            .rev()
            .find(|&at| u32_at(&tail, at) == DIRECTORY_END);
        let end = end.ok_or(TRUNCATED)?;
        let (size, start) = (u32_at(&tail, end + 12), u32_at(&tail, end + 16));
        if size != u32::MAX && start != u32::MAX && u16_at(&tail, end + 10) != u16::MAX {
            return Ok((start.into(), size.into()));
        }
        let locator = end
            .checked_sub(20)
            .filter(|&at| u32_at(&tail, at) == DIRECTORY_LOCATOR_64)
            .ok_or(TRUNCATED)?;
        let record = self.bytes(u64_at(&tail, locator + 8), 56)?;
        if u32_at(&record, 0) != DIRECTORY_END_64 {
            return Err(TRUNCATED.into());
        }
        Ok((u64_at(&record, 48), u64_at(&record, 40)))
    }
}

const TRUNCATED: &str = "is truncated or damaged (parts of it lie beyond its end); copy it again";

/// Parses the first entry of a table of contents. Returns its name, the entry and its length in the
/// table.
fn parse_entry(directory: &[u8]) -> Result<(String, Entry, usize)> {
    if directory.len() < 46 || u32_at(directory, 0) != DIRECTORY_ENTRY {
        return Err(TRUNCATED.into());
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(directory, at)));
    let length = 46 + name + extra + comment;
    let text = directory
        .get(46..46 + name)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or(TRUNCATED)?;
    let extra = directory.get(46 + name..46 + name + extra).ok_or(TRUNCATED)?;
    if u16_at(directory, 8) & 1 != 0 || u16_at(directory, 10) != 0 {
        return Err(format!(
            "holds {text} in compressed or encrypted form, which torch.save doesn't write"
        ));
    }
    let mut large = large_numbers(extra)?.into_iter();
    // Numbers that don't fit into 32 bits follow in a list, in this order.
    let [size, packed, header] = [24, 20, 42].map(|at| match u32_at(directory, at) {
        u32::MAX => large.next().ok_or(TRUNCATED),
        small => Ok(small.into()),
    });
    let (size, packed) = (size?, packed?);
    if size != packed {
        return Err(format!("is damaged (it gives two lengths for {text}); copy it again"));
    }
    Ok((text.to_owned(), Entry { header: header?, size, crc: u32_at(directory, 16) }, length))
}

/// Returns the 64-bit numbers among an entry's extra fields.
fn large_numbers(mut extra: &[u8]) -> Result<Vec<u64>> {
    while extra.len() >= 4 {
        let (kind, size) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let field = extra.get(4..4 + size).ok_or(TRUNCATED)?;
        if kind == 1 {
            return Ok(field
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect());
        }
        extra = &extra[4 + size..];
    }
    Ok(Vec::new())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
