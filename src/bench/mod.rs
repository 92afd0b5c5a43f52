//! The throughput of this machine's devices: kernels, training steps, inference and the view
//! pipeline, each in a process of its own.
//!
//! [`plan`] defines what is run and in which order, [`runner`] starts a process for each job and
//! collects its rows, and [`job`] is the code of that process. [`table`], [`chart`] and
//! [`mod@compare`] show the rows; [`mod@merge`] and [`publish`] put those of several machines into
//! one table.

pub mod chart;
pub mod compare;
mod data;
pub mod estimate;
mod groups;
mod host;
mod inference;
pub mod job;
pub mod kernels;
pub mod merge;
pub mod peaks;
pub mod plan;
pub mod publish;
pub mod ranks;
mod recipe;
mod results;
pub mod row;
pub mod runner;
mod step;
pub mod table;
pub mod timing;
