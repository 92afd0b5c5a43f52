//! Pictures made from z.

pub mod reconstruct;
