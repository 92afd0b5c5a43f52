//! The program as a user sees it: each command in a separate process and folder.

mod cli;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod embed;
mod examples;
mod image_size;
mod import;
mod latent;
mod layout;
mod outputs;
mod precision;
mod prediction;
mod probe;
mod progress;
mod quickstart;
mod report;
mod runs;
mod shipped;
mod small_sets;
mod sources;
mod torchvision;
mod train_first;
mod unused;
