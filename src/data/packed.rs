//! The rows of a pack file, read by position.

use super::planes::bytes_of;
use crate::error::{Error, Result};
use std::fs::File;
use std::path::PathBuf;

/// An open pack file.
#[derive(Debug)]
pub struct Pack {
    /// Where it lies.
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The side in pixels of its images.
    pub(super) side: usize,
    /// The offset of the first row in the file.
    pub(super) start: u64,
}

impl Pack {
    /// Returns the side in pixels of the images in the file.
    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// Reads row `i`, `[3, side, side]`.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn row(&self, i: u32) -> Result<Vec<u8>> {
        let mut row = vec![0; bytes_of(self.side)];
        let at = self.start + u64::from(i) * row.len() as u64;
        read_at(&self.file, &mut row, at).map_err(|e| Error::io("read", &self.path, &e))?;
        Ok(row)
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, at) = (&mut bytes[n..], at + n as u64),
        }
    }
    Ok(())
}
