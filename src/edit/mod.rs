//! Pictures made from z.

pub mod decoder;
pub mod mix;
pub mod reconstruct;
