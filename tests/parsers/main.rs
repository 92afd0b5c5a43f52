//! Parsers of files that come from elsewhere, with bounds of time and memory; and what evaluations
//! hold in memory.
//!
//! An allocator counts what the whole process holds: a binary of its own, in which every test holds
//! [`memory::alone`].

#[path = "../common/mod.rs"]
mod common;
mod evaluation;
mod fuzz;
mod hostile;
mod memory;
