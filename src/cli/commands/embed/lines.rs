//! A text file beside the features: what each row is of.

use soda::error::{Error, Result};
use soda::files::{self, Partial};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A text file, whole or not at all.
pub(super) struct Lines {
    file: BufWriter<Partial>,
    path: PathBuf,
}

impl Lines {
    /// Begins the file `path`.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(files::partial(path)?), path: path.to_owned() })
    }

    /// Adds `line`. Names of files may hold line ends, which are written as \\n.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let line = line.replace('\n', "\\n");
        writeln!(self.file, "{line}").map_err(|e| Error::io("write", &self.path, &e))
    }

    /// Puts the complete file in its place.
    pub fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|e| Error::io("write", &self.path, e.error()))?;
        files::complete(file)
    }
}
