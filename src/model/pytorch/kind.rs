//! What a file is, by its first bytes; of what isn't a checkpoint, what to do instead.

use super::archive::Result;
use super::legacy;

/// A file that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A zip archive, of torch.save since PyTorch 1.6.
    Zip,
    /// A row of pickles, of torch.save before that.
    Legacy,
    /// safetensors.
    Safetensors,
}

/// Bytes that tell.
pub const ENOUGH: u64 = 512;

/// What other files begin with, and what they are.
const OTHERS: [(&[u8], &str); 10] = [
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the file it stands for; fetch that with `git lfs pull`",
    ),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes, not a checkpoint of PyTorch"),
    (b"GGUF", "is a GGUF file, not a checkpoint of PyTorch"),
    (b"\x93NUMPY", "is one NumPy array, not a checkpoint of PyTorch"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (b"\xfd7zXZ\0", "is compressed by xz; unpack it first"),
    (b"(\xb5/\xfd", "is compressed by zstd; unpack it first"),
    (b"BZh", "is compressed by bzip2; unpack it first"),
    (b"%PDF", "is a PDF"),
    (b"\x80", "is a pickle, but not of torch.save; save a state dictionary with torch.save"),
];

impl Kind {
    /// Of the file that begins with `head`.
    ///
    /// # Errors
    /// If it is anything else, whose name the message gives where it is known.
    pub fn of(head: &[u8]) -> Result<Self> {
        if head.starts_with(b"PK\x03\x04") {
            return Ok(Self::Zip);
        }
        if head.starts_with(&legacy::MAGIC) {
            return Ok(Self::Legacy);
        }
        // The length of the header, which is an object.
        if head.get(8..).is_some_and(|rest| rest.starts_with(b"{")) {
            return Ok(Self::Safetensors);
        }
        let found =
            OTHERS.iter().find(|(beginning, _)| head.starts_with(beginning)).map(|(_, what)| *what);
        let text = String::from_utf8_lossy(head).trim_start().to_lowercase();
        Err(match found {
            Some(what) => what,
            None if head.is_empty() => "is empty; copy it again",
            None if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head") => {
                "is a web page, not the file that it was to be; download the file itself"
            }
            // A message of protocol buffers: the version of the format, then who wrote it.
            None if matches!(head, [8, 1..=32, 18 | 58, ..]) => {
                "is an ONNX file; export a state dictionary from the program that it was made by"
            }
            None => {
                "is no checkpoint of PyTorch (neither a zip archive, as torch.save writes since 1.6, nor its older form, nor safetensors)"
            }
        }
        .into())
    }
}
