//! What disturbs a run, and what is left of it: kills, full disks, failing drivers, long runs. The
//! program runs in processes of its own; limits, faults and other environments are theirs alone.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod long_run;
mod printed;
mod resume;
mod soak;
mod survive;
