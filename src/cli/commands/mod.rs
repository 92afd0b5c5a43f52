//! The commands, one file each. No command uses another.

pub mod bench;
pub mod data;
pub mod devices;
pub mod diagnose;
pub mod directions;
pub mod embed;
pub mod export;
pub mod health;
pub mod import;
pub mod interpolate;
pub mod invert;
pub mod map;
pub mod mix;
pub mod neighbours;
pub mod probe;
pub mod quality;
pub mod quickstart;
pub mod reconstruct;
pub mod replay;
pub mod report;
pub mod runs;
pub mod sample;
pub mod selftest;
pub mod shaders;
pub mod train;
pub mod view;
