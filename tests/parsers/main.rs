//! Parsers of untrusted files, with bounds on time and memory; and the memory of evaluations.
//!
//! An allocator counts the memory of the whole process, so these tests have their own binary, in
//! which every test holds [`memory::alone`].

#[path = "../common/mod.rs"]
mod common;
mod evaluation;
mod fuzz;
mod hostile;
mod memory;
