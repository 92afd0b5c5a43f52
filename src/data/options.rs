//! How images are read.

use super::arrange::TEST_SHARE;
use super::folder::Layout;
use serde::{Deserialize, Serialize};

/// Choices about how images are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// What the top folders of a folder of images are; `None`: inferred from their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// The share of each class that goes to the test set, above 0 and below 1, if the place doesn't
    /// define one; `None`: [`TEST_SHARE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_ratio: Option<f64>,
    /// Whether images that can't be read are left out and counted. Otherwise they are an error.
    pub skip_unreadable: bool,
}

impl Options {
    /// Checks whether all options have their defaults.
    pub fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the share of the test set.
    pub(super) fn share(&self) -> f64 {
        self.split_ratio.unwrap_or(TEST_SHARE)
    }
}
