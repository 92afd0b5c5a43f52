//! A counting allocator: the most memory that a parser holds at a time, requested rather than
//! touched.
//!
//! A binary with this module counts from its first byte on. The counts are of the whole process, so
//! tests take [`alone`] to run one at a time.
// An allocator needs unsafe code: `GlobalAlloc` is an unsafe trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The limit at which the allocating thread stops, see [`stop_at`].
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static STOPPED: AtomicBool = AtomicBool::new(false);

fn grow(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
    // Neither a panic nor an abort here could report the input, so the thread waits until the
    // watchdog has done so.
    if now > LIMIT.load(Relaxed) && !STOPPED.swap(true, Relaxed) {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }
}

fn shrink(bytes: usize) {
    NOW.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call is forwarded unchanged to the system's allocator; the counters touch no memory
// of a caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller upholds the contract that the system's allocator has, too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above, the caller's promises are handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as above, the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks may exist for a moment.
        grow(size);
        shrink(layout.size());
        // SAFETY: as above, the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

static ALONE: Mutex<()> = Mutex::new(());

/// Returns the lock that a test holds while it counts.
pub fn alone() -> MutexGuard<'static, ()> {
    // The failure of another test doesn't matter here.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`; returns its result, and the peak of bytes in use beyond those in use before.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let out = work();
    (out, PEAK.load(Relaxed).saturating_sub(before))
}

/// Makes the first thread that brings the process to `bytes` from now on wait forever; [`stopped`]
/// then returns true.
pub fn stop_at(bytes: usize) {
    LIMIT.store(bytes, Relaxed);
}

/// Returns whether a thread waits because of [`stop_at`].
pub fn stopped() -> bool {
    STOPPED.load(Relaxed)
}
