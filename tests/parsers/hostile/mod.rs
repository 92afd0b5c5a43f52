//! Malicious files, written by hand: each is refused with a message that names it, in bounded time
//! and memory. The fuzzer (tests/parsers/fuzz) looks for others.

mod checkpoints;
mod data;
mod formats;
mod pytorch;
mod weights;

use crate::memory;
use soda::config::{BUILT_IN, Config};
use soda::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Returns the bytes of memory that reading a file of `length` bytes may take.
fn bound(length: usize) -> usize {
    (64 << 20) + 32 * length
}

/// Asserts that `read` fails with an error that contains all of `parts`, within `time` and `memory`
/// bytes.
#[track_caller]
fn refused_within<T>(
    time: Duration,
    memory: usize,
    parts: &[&str],
    read: impl Fn() -> Result<T, Error>,
) {
    let mut fastest = Duration::MAX;
    // A busy machine is slow now and then; a slow parser is slow every time.
    for _ in 0..3 {
        let start = Instant::now();
        let (result, peak) = memory::peak(&read);
        fastest = fastest.min(start.elapsed());
        let Err(error) = result else { panic!("{parts:?} was read") };
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        assert!(message.chars().count() < 1000, "{} characters: {message:.300}", message.len());
        assert!(peak <= memory, "{parts:?} took {} MiB", peak >> 20);
        if fastest <= time {
            return;
        }
    }
    panic!("{parts:?} took {fastest:?}");
}

#[track_caller]
fn refused<T>(length: usize, parts: &[&str], read: impl Fn() -> Result<T, Error>) {
    refused_within(Duration::from_secs(2), bound(length), parts, read);
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// Checks the bounds themselves: exceeding them is detected.
#[test]
fn too_much_memory_and_time_are_noticed() {
    let _alone = memory::alone();
    let error = || Error::failed("a.bin is bad");
    refused(0, &["a.bin"], || Err::<(), _>(error()));
    let large = || {
        drop(vec![1u8; 65 << 20]);
        Err::<(), _>(error())
    };
    let slow = || {
        std::thread::sleep(Duration::from_millis(30));
        Err::<(), _>(error())
    };
    let noticed =
        |work: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
    assert!(noticed(&|| refused(0, &["a.bin"], large)));
    assert!(!noticed(&|| refused(1 << 20, &["a.bin"], large)), "a longer file may take more");
    assert!(noticed(&|| refused_within(Duration::from_millis(20), 1 << 20, &["a.bin"], slow)));
    assert!(noticed(&|| refused(0, &["b.bin"], || Err::<(), _>(error()))));
}

/// Returns configs/quick.toml with overrides.
fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::parse(BUILT_IN[1].1, "quick.toml", &sets).expect("a recipe")
}
