//! The kind of a file by its first bytes; for files that aren't checkpoints, what to do instead.

use super::archive::Result;
use super::legacy;

/// A kind of file that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A zip archive, as torch.save writes since PyTorch 1.6.
    Zip,
    /// A sequence of pickles, as torch.save wrote before that.
    Legacy,
    /// A safetensors file.
    Safetensors,
}

/// The number of leading bytes that determine the kind.
pub const ENOUGH: u64 = 512;

/// The first bytes of other files, and what these are.
const OTHERS: [(&[u8], &str); 10] = [
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`",
    ),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes, not a PyTorch checkpoint"),
    (b"GGUF", "is a GGUF file, not a PyTorch checkpoint"),
    (b"\x93NUMPY", "is a single NumPy array, not a PyTorch checkpoint"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"\xfd7zXZ\0", "is compressed with xz; unpack it first"),
    (b"(\xb5/\xfd", "is compressed with zstd; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"%PDF", "is a PDF, not a PyTorch checkpoint"),
    (
        b"\x80",
        "is a pickle, but torch.save didn't write it; save a state dictionary with torch.save",
    ),
];

impl Kind {
    /// Determines the kind of the file that begins with `head`.
    ///
    /// # Errors
    /// If it is anything else; the message says what it is, if known.
    pub fn of(head: &[u8]) -> Result<Self> {
        if head.starts_with(b"PK\x03\x04") {
            return Ok(Self::Zip);
        }
        if head.starts_with(&legacy::MAGIC) {
            return Ok(Self::Legacy);
        }
        // After the length of the header comes the header, a JSON object.
        if head.get(8..).is_some_and(|rest| rest.starts_with(b"{")) {
            return Ok(Self::Safetensors);
        }
        let found =
            OTHERS.iter().find(|(beginning, _)| head.starts_with(beginning)).map(|(_, what)| *what);
        let text = String::from_utf8_lossy(head).trim_start().to_lowercase();
        Err(match found {
            Some(what) => what,
            None if head.is_empty() => "is empty; copy it again",
            None if text.starts_with("<!doctype html")
                || text.starts_with("<html")
                || text.starts_with("<head") =>
            {
                "is a web page, not a checkpoint; download the file itself"
            }
            // A protocol buffers message: the version of the format, then the producer.
            None if matches!(head, [8, 1..=32, 18 | 58, ..]) => {
                "is an ONNX file; export a state dictionary from the program that made it"
            }
            None => {
                "is not a PyTorch checkpoint (neither a zip archive, as torch.save writes since \
                 1.6, nor its older format, nor safetensors)"
            }
        }
        .into())
    }
}
