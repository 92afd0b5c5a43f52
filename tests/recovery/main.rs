//! Interrupted and failing runs, and what is left of them: kills, full disks, failing drivers, long
//! runs. The program runs in separate processes, so that limits, faults and environments affect
//! only those.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod long_run;
mod printed;
mod resume;
mod soak;
mod survive;
