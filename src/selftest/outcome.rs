//! The outcome of a case, and the key under which the outcomes of an adapter are kept.

use crate::device::{Adapter, Selected};
use crate::files::sha256;
use crate::kernels::catalog::{self, Operation};
use serde::Serialize;

/// The outcome of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The kernel.
    pub kernel: &'static str,
    /// Its size.
    pub size: String,
    /// The largest error, as a multiple of the tolerance; infinite if any value wasn't finite.
    pub worst: f32,
    /// The result with the largest error.
    pub of: String,
    /// The time on the adapter, first launch included.
    pub milliseconds: f64,
    /// Whether a failure is only a warning.
    pub warns: bool,
}

impl Outcome {
    /// Returns whether the adapter's results are correct.
    pub fn passed(&self) -> bool {
        self.worst <= 1.0
    }
}

/// Returns a key that identifies `device`, its driver and our shaders; `None` for the CPU backend.
pub(super) fn key(device: &Selected) -> Option<String> {
    device.adapter.as_ref().map(key_of)
}

/// Returns [`key`] of an adapter.
pub(super) fn key_of(adapter: &Adapter) -> String {
    let (shaders, Adapter { backend, name, driver, limits, .. }) =
        (shaders_hash(catalog::operations()), adapter);
    let key = format!("{shaders} {backend} {name} {driver} {limits:?}");
    sha256(key.as_bytes())[..16].to_owned()
}

/// Returns a hash of the sources of all shaders of `operations`.
fn shaders_hash(operations: &[&dyn Operation]) -> String {
    let texts: Vec<String> =
        catalog::shaders(operations).into_iter().map(|(_, filled)| filled.text).collect();
    sha256(texts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_shaders_are_tested_again() {
        let all = catalog::operations();
        assert_eq!(shaders_hash(all), shaders_hash(all));
        assert_ne!(shaders_hash(all), shaders_hash(&all[1..]));
    }
}
