//! What images come in. Every module lists a place as a [`Listing`](super::listing::Listing), or says that the place is something else.

use super::listing::Listing;
use crate::error::Result;
use std::cmp::Ordering;
use std::path::Path;

/// The images at `place`, a file or a folder; `None` if it is none of these formats.
///
/// # Errors
/// It is one of them, and something is wrong with it.
pub(crate) fn list(_place: &Path) -> Result<Option<Listing>> {
    Ok(None)
}

/// The order of two names of classes: numbers as numbers and before other names.
pub(crate) fn class_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(x), Ok(y)) => x.cmp(&y).then_with(|| a.cmp(b)),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        _ => a.cmp(b),
    }
}
