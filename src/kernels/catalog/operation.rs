//! What the catalogue asks of an operation, and the cases and shaders of several.

use super::{Case, Layer, Suite};
use crate::kernels::shader::Filled;
use std::collections::BTreeSet;

/// An operation with hand-written kernels.
pub trait Operation: Sync {
    /// Returns its name, such as "ada_gn".
    fn name(&self) -> &'static str;

    /// Returns its cases in `suite`.
    fn cases(&self, suite: Suite) -> Vec<Case>;

    /// Returns all variants of its shaders; the same text may occur more than once.
    fn shaders(&self) -> Vec<Filled>;

    /// Returns the shaders that GPUs run for `layers` of `batch` images in a training step; the
    /// same text may occur more than once.
    fn launched(&self, layers: &[Layer], batch: usize) -> Vec<Filled> {
        let _ = (layers, batch);
        Vec::new()
    }
}

/// Returns the cases of `operations` in `suite`.
pub fn cases(operations: &[&dyn Operation], suite: Suite) -> Vec<Case> {
    operations.iter().flat_map(|operation| operation.cases(suite)).collect()
}

/// Returns the shaders of `operations`, each text once, with the names of their operations.
pub fn shaders(operations: &[&dyn Operation]) -> Vec<(&'static str, Filled)> {
    once(
        operations.iter().flat_map(|op| op.shaders().into_iter().map(|filled| (op.name(), filled))),
    )
}

/// Returns the shaders that GPUs run for `layers` of `batch` images in a training step, as
/// [`shaders`] does.
pub fn launched(
    operations: &[&dyn Operation],
    layers: &[Layer],
    batch: usize,
) -> Vec<(&'static str, Filled)> {
    once(
        operations.iter().flat_map(|op| {
            op.launched(layers, batch).into_iter().map(|filled| (op.name(), filled))
        }),
    )
}

fn once(all: impl Iterator<Item = (&'static str, Filled)>) -> Vec<(&'static str, Filled)> {
    let mut seen = BTreeSet::new();
    all.filter(|(_, filled)| seen.insert(filled.text.clone())).collect()
}
