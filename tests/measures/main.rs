//! Tests that count launches or measure time, in a process without other tests that would be
//! counted or would take time.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod plan;
mod recorded;
mod wgpu_kernels;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Returns a lock that is held by every test that runs kernels in this process or measures time. An
/// observer sees the launches of all threads, and one test here counts them; while a network is
/// recorded, Burn's kernels don't run, in other threads either.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // The failure of another test doesn't matter here.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
