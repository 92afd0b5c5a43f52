//! A text file next to the features: one line per row, with the name of its image.

use soda::error::{Error, Result};
use soda::files::{self, Partial};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A text file that is written completely or not at all.
pub(super) struct Lines {
    file: BufWriter<Partial>,
    path: PathBuf,
}

impl Lines {
    /// Starts the file `path`.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(files::partial(path)?), path: path.to_owned() })
    }

    /// Adds `line`. File names may contain line breaks, which are written as \\n.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let line = line.replace('\n', "\\n");
        writeln!(self.file, "{line}").map_err(|e| Error::io("write", &self.path, &e))
    }

    /// Moves the complete file to its path.
    pub fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|e| Error::io("write", &self.path, e.error()))?;
        files::complete(file)
    }
}
