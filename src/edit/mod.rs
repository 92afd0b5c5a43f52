//! Pictures made from z.

pub mod decoder;
pub mod reconstruct;
