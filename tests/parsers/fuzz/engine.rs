//! Runs inputs: checks that a parser gives a result or an error, in bounded time and memory, and
//! searches for inputs with which it doesn't.

use super::mutate::Mutator;
use crate::memory;
use soda::files::sha256;
use soda::rng::{self, Purpose};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The outcome of an input: a few words on success, otherwise the error message.
pub type Outcome = Result<String, String>;

/// Returns the inputs to start from.
pub type Seeds = fn() -> Vec<Vec<u8>>;

/// Unwraps an input's contents, lets the callback change them, and wraps them again, so that
/// checksums and compression don't hide the changes from the parser. Returns `None` if the input
/// doesn't have this layer.
pub type Layer = fn(&[u8], &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Option<Vec<u8>>;

/// A parser and how it is fuzzed.
pub struct Target {
    /// Its name, and that of its corpus's folder.
    pub name: &'static str,
    /// Parses an input; may write files to the folder. Panics if a result contradicts the input.
    pub run: fn(&[u8], &Path) -> Outcome,
    /// Inputs to start from, from the program's own writers or written by hand.
    pub seeds: Seeds,
    /// See [`Layer`].
    pub layers: &'static [Layer],
    /// Tokens of its format.
    pub words: &'static [&'static str],
    /// Its inputs out of every million.
    pub share: usize,
    /// Bytes of memory that parsing may take beyond [`MEMORY_FACTOR`] times the input's.
    pub memory: usize,
    /// Longest time for an input.
    pub time: Duration,
}

/// Bytes that any parser may hold, whatever its input.
pub const MEMORY: usize = 64 << 20;
/// Further bytes that it may hold for each byte of its input.
pub const MEMORY_FACTOR: usize = 32;
/// Longest time for an input.
pub const TIME: Duration = Duration::from_secs(2);
/// The memory at which a thread is stopped, see [`memory::stop_at`], and the time after which an
/// input is aborted.
const HARD_LIMITS: (usize, Duration) = (6 << 30, Duration::from_secs(60));
/// Inputs kept to be mutated further.
const POOL: usize = 400;
/// Most bytes of an input beyond those of the longest seed.
const LONGEST: usize = 64 << 10;

/// The location and message of the last panic.
static PANIC: Mutex<String> = Mutex::new(String::new());
/// The target, start time and input that run now, for the watchdog.
static CURRENT: Mutex<Option<(&'static str, Instant, Vec<u8>)>> = Mutex::new(None);

/// Runs `target` on `input`; returns its outcome, or an error that says which rule it broke.
pub fn check(target: &Target, input: &[u8], folder: &Path) -> Result<Outcome, String> {
    watch();
    *CURRENT.lock().expect("no panic holds it") =
        Some((target.name, Instant::now(), input.to_vec()));
    // A busy machine is slow now and then; a slow parser is slow every time.
    let mut shortest = Duration::MAX;
    let mut last = Ok(Ok(String::new()));
    for _ in 0..3 {
        let start = Instant::now();
        let (result, peak) =
            memory::peak(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input, folder))));
        shortest = shortest.min(start.elapsed());
        last = match result {
            Err(_) => Err(format!("panicked: {}", PANIC.lock().expect("no panic holds it"))),
            Ok(_) if peak > target.memory + MEMORY_FACTOR * input.len() => Err(format!(
                "took {} MiB of memory for an input of {} bytes",
                peak >> 20,
                input.len()
            )),
            Ok(outcome) => Ok(outcome),
        };
        if last.is_err() || shortest <= target.time {
            break;
        }
    }
    *CURRENT.lock().expect("no panic holds it") = None;
    if last.is_ok() && shortest > target.time {
        return Err(format!("took {:.1} s", shortest.as_secs_f64()));
    }
    last
}

/// Silences panics; starts a watchdog that writes the input to a file and ends the process if a
/// parser doesn't end or takes all memory.
fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let normal = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            match CURRENT.try_lock().map(|current| current.is_some()) {
                Ok(true) => {
                    *PANIC.lock().expect("no panic holds it") = info.to_string().replace('\n', " ")
                }
                _ => normal(info),
            }
        }));
        memory::stop_at(HARD_LIMITS.0);
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                let current = CURRENT.lock().expect("no panic holds it");
                let Some((name, start, input)) = current.as_ref() else { continue };
                let what = match (memory::stopped(), start.elapsed() > HARD_LIMITS.1) {
                    (true, _) => "takes all memory",
                    (_, true) => "doesn't end",
                    _ => continue,
                };
                eprintln!(
                    "{name}: an input of {} bytes {what}; it is in {}",
                    input.len(),
                    keep(name, input).display()
                );
                std::process::exit(101);
            }
        });
    });
}

/// Returns the folder of a target's inputs that every test runs again.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_corpus").join(name)
}

/// Writes `input` to the corpus.
pub fn keep(name: &str, input: &[u8]) -> PathBuf {
    let path = corpus(name).join(format!("{}.bin", &sha256(input)[..16]));
    std::fs::create_dir_all(corpus(name))
        .and_then(|()| std::fs::write(&path, input))
        .expect("the corpus can be written");
    path
}

/// Returns the inputs kept for `name`, sorted by file name.
pub fn kept(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(corpus(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect()
}

/// The results of fuzzing one target.
pub struct Found {
    /// Inputs run.
    pub count: usize,
    /// Inputs that parsed.
    pub parsed: usize,
    /// Inputs with a new kind of outcome.
    pub new: Vec<Vec<u8>>,
    /// The first failure, and its input.
    pub failure: Option<(String, Vec<u8>)>,
}

/// Runs `count` inputs, the same ones for the same `seed`: mutations of seeds, of the corpus, and
/// of inputs with new outcomes.
pub fn fuzz(target: &Target, count: usize, seed: u64) -> Found {
    let folder = TempDir::new().expect("a folder");
    let mut pool = (target.seeds)();
    let seeds = pool.len();
    let mut seen: HashSet<String> = HashSet::new();
    let mut found = Found { count: 0, parsed: 0, new: Vec::new(), failure: None };
    for (i, input) in pool.iter().enumerate() {
        match check(target, input, folder.path()) {
            Ok(outcome) => drop(seen.insert(kind(&outcome))),
            Err(what) => {
                found.failure = Some((format!("seed {i} {what}"), input.clone()));
                return found;
            }
        }
    }
    let longest = pool.iter().map(Vec::len).max().expect("seeds") + LONGEST;
    for (_, input) in kept(target.name) {
        if let Ok(outcome) = check(target, &input, folder.path()) {
            seen.insert(kind(&outcome));
        }
        pool.push(input);
    }
    let stream = seed ^ target.name.bytes().fold(0, |hash, byte| rng::mix(hash ^ u64::from(byte)));
    while found.count < count {
        let mut mutator = Mutator::new(
            rng::stream(stream, Purpose::Test, found.count as u64),
            target.words,
            longest,
        );
        let input = mutator.input(&pool, seeds, target.layers);
        found.count += 1;
        match check(target, &input, folder.path()) {
            Ok(outcome) => {
                found.parsed += usize::from(outcome.is_ok());
                if pool.len() < POOL && seen.insert(kind(&outcome)) {
                    pool.push(input.clone());
                    found.new.push(input);
                }
            }
            Err(what) => {
                found.failure =
                    Some((format!("input {} of seed {seed} {what}", found.count), input));
                break;
            }
        }
    }
    found
}

/// Returns the outcome without what varies between inputs: digits, and whatever is quoted.
fn kind(outcome: &Outcome) -> String {
    let (Ok(text) | Err(text)) = outcome;
    let mut out = String::from(if outcome.is_ok() { "+" } else { "-" });
    let mut quote = None;
    for c in text.chars().take(400) {
        match quote {
            Some(end) if c == end => quote = None,
            None if "`\"'".contains(c) => quote = Some(c),
            None if c.is_ascii_alphabetic() || c == ' ' => out.push(c),
            _ => {}
        }
    }
    out
}
