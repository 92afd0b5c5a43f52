//! TensorBoard event files: scalars, pictures and text.
//!
//! A file is a sequence of TFRecords: length (u64), masked CRC-32C of the length, bytes, masked
//! CRC-32C of the bytes, all little-endian. The bytes are an `Event`
//! (tensorflow/core/util/event.proto) in the protocol buffers wire format.

use crate::error::{Error, Result};
use crate::protobuf::Message;
use jiff::Timestamp;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An event file that events are appended to.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
}

/// The start of the names of event files; the seconds since 1970 follow.
const PREFIX: &str = "events.out.tfevents.";

/// Returns the latest second in the names of the event files in `folder`.
fn newest(folder: &Path) -> Option<i64> {
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok())
        .max()
}

/// A value that TensorBoard displays.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown<'a> {
    /// A number.
    Scalar(f64),
    /// A PNG file, with its width and height.
    Picture(&'a [u8], [u32; 2]),
    /// Markdown.
    Text(&'a str),
}

impl Events {
    /// Creates a file in `folder` that starts at `step`: TensorBoard then discards events of
    /// earlier files from this step on.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        let now = Timestamp::now();
        // TensorBoard recognises files by "tfevents" in their names, and reads them in the order of
        // their names. The clock may have gone back since the last one was named.
        let second = newest(folder).map_or(now.as_second(), |last| now.as_second().max(last + 1));
        let name = format!("{PREFIX}{second}.{:09}.soda", now.subsec_nanosecond());
        let events = Self { path: folder.join(name) };
        let version = Message::default().text(event::FILE_VERSION, "brain.Event:2");
        let start = Message::default().varint(1, 1); // SessionLog.status = START
        let start =
            Message::default().varint(event::STEP, step).message(event::SESSION_LOG, &start);
        events.append(&[version, start])?;
        Ok(events)
    }

    /// Appends each of `values` under its tag at `step`.
    ///
    /// # Errors
    /// If the file can't be written; it then keeps its previous length.
    pub fn add(&self, step: u64, values: &[(&str, Shown)]) -> Result<()> {
        let summary = values
            .iter()
            .fold(Message::default(), |all, (tag, shown)| all.message(1, &value(tag, shown)));
        self.append(&[Message::default()
            .varint(event::STEP, step)
            .message(event::SUMMARY, &summary)])
    }

    /// Appends `events`. Opens the file each time, as it may have been moved away.
    fn append(&self, events: &[Message]) -> Result<()> {
        let failed = |e: &std::io::Error| Error::io("write", &self.path, e);
        let now = Timestamp::now().as_nanosecond() as f64 / 1e9;
        let records: Vec<u8> = events
            .iter()
            .flat_map(|event| record(event.clone().double(event::WALL_TIME, now).encoded()))
            .collect();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(|e| failed(&e))?;
        let before = file.metadata().map_err(|e| failed(&e))?.len();
        file.write_all(&records).map_err(|e| {
            // TensorBoard reads nothing after a partial record.
            let _ = file.set_len(before);
            failed(&e)
        })
    }
}

/// Field numbers of `Event`.
mod event {
    pub const WALL_TIME: u64 = 1;
    pub const STEP: u64 = 2;
    pub const FILE_VERSION: u64 = 3;
    pub const SUMMARY: u64 = 5;
    pub const SESSION_LOG: u64 = 7;
}

/// Encodes a `Summary.Value` of tensorflow/core/framework/summary.proto.
fn value(tag: &str, shown: &Shown) -> Message {
    let value = Message::default().text(1, tag);
    match shown {
        Shown::Scalar(number) => value.float(2, *number as f32),
        Shown::Picture(png, [width, height]) => {
            let rgb = 3;
            let image = Message::default()
                .varint(1, (*height).into())
                .varint(2, (*width).into())
                .varint(3, rgb)
                .bytes(4, png);
            value.message(4, &image)
        }
        Shown::Text(markdown) => {
            // A tensor of one string (DT_STRING = 7), for the "text" plugin.
            let plugin = Message::default().text(1, "text");
            let one = Message::default().message(2, &Message::default().varint(1, 1));
            let tensor = Message::default().varint(1, 7).message(2, &one).text(8, markdown);
            value.message(8, &tensor).message(9, &Message::default().message(1, &plugin))
        }
    }
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let masked = |bytes: &[u8]| {
        crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_as_in_tensorflow() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        let framed = record(b"bytes");
        assert_eq!(
            (framed.len(), &framed[..8], &framed[12..17]),
            (8 + 4 + 5 + 4, &5u64.to_le_bytes()[..], &b"bytes"[..])
        );
        // Computed independently, bit by bit.
        assert_eq!(framed[8..12], 0x3e04_b2ea_u32.to_le_bytes());
        assert_eq!(framed[17..], 0xdba8_8bb5_u32.to_le_bytes());
    }

    #[test]
    fn a_new_file_comes_last_even_if_the_clock_went_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let later = "events.out.tfevents.9999999998.999999999.soda";
        std::fs::write(folder.path().join(later), "").expect("writable");
        let events = Events::create(folder.path(), 4).expect("writable");
        let name = events.path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(name > later, "{name}");
    }

    #[test]
    fn a_file_grows_by_whole_records_and_is_created_again_after_a_move() {
        let folder = tempfile::tempdir().expect("a folder");
        let events = Events::create(folder.path(), 3).expect("writable");
        let lengths = |path: &Path| {
            let (bytes, mut at, mut lengths) = (std::fs::read(path).expect("there"), 0, Vec::new());
            while at < bytes.len() {
                let length =
                    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
                assert_eq!(record(&bytes[at + 12..at + 12 + length]), bytes[at..at + 16 + length]);
                lengths.push(length);
                at += 16 + length;
            }
            lengths
        };
        assert_eq!(lengths(&events.path).len(), 2);
        events
            .add(4, &[("loss", Shown::Scalar(0.5)), ("recipe", Shown::Text("seed = 1"))])
            .expect("writable");
        events.add(4, &[("picture", Shown::Picture(b"png", [2, 1]))]).expect("writable");
        assert_eq!(lengths(&events.path).len(), 4);
        std::fs::rename(&events.path, folder.path().join("moved")).expect("renamed");
        events.add(5, &[("loss", Shown::Scalar(0.25))]).expect("writable");
        assert_eq!(lengths(&events.path).len(), 1);
    }
}
