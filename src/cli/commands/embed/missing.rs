//! The entries that have no row among the features.

use soda::data;
use soda::data::inventory::UNREADABLE;
use soda::data::listing::LeftOut;
use soda::error::{Error, Result};

/// The entries that have no row in the features.
#[derive(Default)]
pub struct Missing {
    /// The number of readable images.
    pub of: usize,
    /// The number of unreadable images.
    pub unreadable: usize,
    /// The first unreadable images, with the reasons.
    pub first: Vec<String>,
    /// What isn't an image.
    pub left_out: Vec<LeftOut>,
}

impl Missing {
    /// Counts the unreadable image that `line` is about.
    pub fn unreadable(&mut self, line: String) {
        self.unreadable += 1;
        if self.first.len() < LeftOut::NAMED {
            self.first.push(line);
        }
    }

    /// Checks that the rows are complete.
    ///
    /// # Errors
    /// If there are unreadable images that are not to be skipped, or no images at all.
    pub fn check(&self, rows: usize, skip: bool, may_be_empty: bool) -> Result<()> {
        if self.unreadable > 0 && (!skip || (rows == 0 && !may_be_empty)) {
            let all = self.of + self.unreadable;
            return Err(data::unreadable(
                "nothing was written",
                all,
                self.unreadable,
                self.first.iter().cloned(),
            ));
        }
        if rows == 0 && !may_be_empty {
            let others = if self.left_out.is_empty() {
                String::new()
            } else {
                format!(", but {}", LeftOut::line(&self.left_out))
            };
            return Err(Error::failed(format!(
                "nothing to embed: there are no images{others}; name image files, or folders of \
                 images"
            )));
        }
        Ok(())
    }

    /// Returns "; left out: files that are not images (.txt): 3", or nothing.
    pub fn describe(&self) -> String {
        let mut kinds = self.left_out.clone();
        if self.unreadable > 0 {
            kinds.push(LeftOut {
                what: UNREADABLE.into(),
                count: self.unreadable,
                first: Vec::new(),
            });
        }
        if kinds.is_empty() {
            String::new()
        } else {
            format!("; left out: {}", LeftOut::line(&kinds))
        }
    }
}
