//! Warnings about shared flags that have no effect in a call.

use super::{Common, images};
use soda::progress::warn;

impl Common {
    /// Warns that `--device` isn't used, if it names anything but the CPU, because of `why`.
    pub fn warn_unused_device(&self, why: &str) {
        if !["", "auto", "cpu"].contains(&self.device.as_str()) {
            warn(&format!("--device is not used: {why}"));
        }
    }

    /// Warns of each given flag on images that it isn't used, because of `why`.
    pub fn warn_unused_data(&self, why: &str) {
        if self.data.is_some() {
            warn(&format!("--data is not used: {why}"));
        }
        self.warn_unused_reading(why);
    }

    /// Warns of each given flag on how images are read that it isn't used, because of `why`.
    pub fn warn_unused_reading(&self, why: &str) {
        let words = images::flags(&self.taking.options());
        for flag in words.iter().filter_map(|word| word.to_str()).filter(|w| w.starts_with("--")) {
            warn(&format!("{flag} is not used: {why}"));
        }
    }
}
