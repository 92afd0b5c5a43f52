//! A failing system: a library loaded before libc (LD_PRELOAD). While the file $FAULT_WHEN exists
//! (always if none is named), it does what $FAULT says:
//!
//! - `clock:SECONDS`: the time of day is alternately this much ahead and behind, from one call to
//!   the next;
//! - `ENOSPC:BYTES`: after this many bytes, writing to files whose path contains $FAULT_UNDER fails
//!   as on a full disk, until the file $FAULT_WHEN is gone (which resets the count);
//! - `EROFS`, `EACCES`: files and folders there can't be created or opened for writing, as on a
//!   read-only disk or without permission.
//!
//! Built with plain rustc by tests/recovery/faults/inject.rs.

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

unsafe extern "C" {
    fn dlsym(handle: *const c_void, name: *const c_char) -> *const c_void;
    fn __errno_location() -> *mut c_int;
}

const WRITING: c_int = 0o3;
const ENOSPC: c_int = 28;
const EACCES: c_int = 13;
const EROFS: c_int = 30;

#[repr(C)]
pub struct Time {
    seconds: i64,
    nanoseconds: i64,
}

/// Files opened for writing where the disk fails.
static OPEN: Mutex<Option<HashSet<c_int>>> = Mutex::new(None);
/// Bytes written there since the fault started.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);
static AHEAD: AtomicBool = AtomicBool::new(false);

/// Returns libc's own function. (-1 is RTLD_NEXT: the next library after this one.)
fn next(name: &CStr) -> *const c_void {
    unsafe { dlsym(-1isize as *const c_void, name.as_ptr()) }
}

/// Returns the fault to inject now, if any.
fn fault() -> Option<String> {
    let fault = std::env::var("FAULT").ok()?;
    std::env::var_os("FAULT_WHEN")
        .is_none_or(|path| std::path::Path::new(&path).exists())
        .then_some(fault)
}

fn fail(errno: c_int) -> c_int {
    unsafe { *__errno_location() = errno };
    -1
}

/// Checks whether `path` lies where the disk fails.
fn under(path: *const c_char) -> bool {
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    std::env::var("FAULT_UNDER").is_ok_and(|part| path.contains(&part))
}

/// Returns the error of creating `path` or opening it for writing.
fn refused(path: *const c_char) -> Option<c_int> {
    let errno = match fault()?.as_str() {
        "EROFS" => EROFS,
        "EACCES" => EACCES,
        _ => return None,
    };
    under(path).then_some(errno)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Time) -> c_int {
    let own: unsafe extern "C" fn(c_int, *mut Time) -> c_int =
        unsafe { transmute(next(c"clock_gettime")) };
    let result = unsafe { own(clock, time) };
    // 0 is the time of day; other clocks are monotonic.
    if clock == 0
        && result == 0
        && let Some(jump) = fault().and_then(|f| f.strip_prefix("clock:")?.parse::<i64>().ok())
    {
        let sign = if AHEAD.fetch_xor(true, SeqCst) { -1 } else { 1 };
        unsafe { (*time).seconds += sign * jump };
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let writing = flags & WRITING != 0;
    if writing && let Some(errno) = refused(path) {
        return fail(errno);
    }
    let own: unsafe extern "C" fn(*const c_char, c_int, ...) -> c_int =
        unsafe { transmute(next(c"open64")) };
    let file = unsafe { own(path, flags, mode) };
    let mut open = OPEN.lock().expect("no panic");
    let open = open.get_or_insert_default();
    // The descriptors of closed files are reused.
    if file >= 0 && writing && under(path) {
        open.insert(file)
    } else {
        open.remove(&file)
    };
    file
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: usize) -> isize {
    let listed =
        OPEN.lock().is_ok_and(|open| open.as_ref().is_some_and(|open| open.contains(&file)));
    if listed {
        match fault().and_then(|f| f.strip_prefix("ENOSPC:")?.parse::<usize>().ok()) {
            Some(room) if WRITTEN.fetch_add(count, SeqCst) + count > room => {
                return fail(ENOSPC) as isize;
            }
            Some(_) => {}
            None => WRITTEN.store(0, SeqCst),
        }
    }
    let own: unsafe extern "C" fn(c_int, *const c_void, usize) -> isize =
        unsafe { transmute(next(c"write")) };
    unsafe { own(file, bytes, count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: u32) -> c_int {
    if let Some(errno) = refused(path) {
        return fail(errno);
    }
    let own: unsafe extern "C" fn(*const c_char, u32) -> c_int =
        unsafe { transmute(next(c"mkdir")) };
    unsafe { own(path, mode) }
}
