//! What counts launches or bounds a time by the clock, apart from tests that would be counted or
//! would take that time.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod plan;
mod recorded;
mod wgpu_kernels;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each test that runs kernels in this process (an observer sees those of every thread, and
/// one test here counts them; while a network is recorded Burn's kernels are left out, those of
/// other threads too), and by those that bound a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // Another test's failure is no reason to fail.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
