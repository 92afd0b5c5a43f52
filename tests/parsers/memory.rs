//! A counting allocator: the most memory that a parser holds at a time, asked for rather than
//! touched.
//!
//! A binary with this module counts from its first byte on. Counts are of the whole process:
//! [`alone`] keeps tests apart.
// An allocator can't be written without: `GlobalAlloc` is an unsafe trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// At which the thread that asks for more stops, see [`stop_at`].
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static STOPPED: AtomicBool = AtomicBool::new(false);

fn grow(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
    // Neither a panic nor an abort here could name the input: the thread waits until another one
    // has done so.
    if now > LIMIT.load(Relaxed) && !STOPPED.swap(true, Relaxed) {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }
}

fn shrink(bytes: usize) {
    NOW.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came; the counters touch no memory
// of a caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller has promised what the system's allocator asks for.
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
        // Both may be there for a moment.
        grow(size);
        shrink(layout.size());
        // SAFETY: as above, the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

static ALONE: Mutex<()> = Mutex::new(());

/// Held by a test for as long as it counts.
pub fn alone() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason to fail.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` gives, and the most bytes that were in use during it beyond those in use before.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let out = work();
    (out, PEAK.load(Relaxed).saturating_sub(before))
}

/// From now on, the first thread that brings the process to `bytes` waits for ever, and [`stopped`]
/// says so.
pub fn stop_at(bytes: usize) {
    LIMIT.store(bytes, Relaxed);
}

/// Whether a thread waits because of [`stop_at`].
pub fn stopped() -> bool {
    STOPPED.load(Relaxed)
}
