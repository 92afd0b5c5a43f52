//! Fuzzing of every parser of untrusted files: mutations of valid files, also inside compression
//! and checksums. A parser may reject an input or read it; it must not panic, take more than
//! [`TIME`](engine::TIME), or hold more memory than [`MEMORY`](engine::MEMORY) plus
//! [`MEMORY_FACTOR`](engine::MEMORY_FACTOR) times the input.
//!
//! `cargo test --release --test parsers fuzz` takes a few seconds. `SODA_FUZZ=1000000 cargo test
//! --release --test parsers fuzz -- --nocapture` runs a million inputs over all parsers.
//! `SODA_FUZZ_SEED=N` generates other inputs, `SODA_FUZZ_ONLY=NAME` runs one parser, and
//! `SODA_FUZZ_KEEP=1` adds inputs with a new kind of outcome to tests/fuzz_corpus, which every run
//! starts with.

mod engine;
mod format_seeds;
mod formats;
mod layers;
mod mutate;
mod parsers;
mod seeds;
mod targets;

use crate::memory;
use engine::{Found, Outcome, Seeds, Target, check, fuzz, keep, kept};
use std::path::Path;
use std::time::{Duration, Instant};
use targets::TARGETS;

/// Inputs over all parsers in an ordinary test.
const FEW: usize = 40_000;
/// The minimum of inputs for each parser.
const LEAST: u64 = 300;
/// The most inputs that a run adds to a parser's corpus, shortest first, and their most bytes.
const KEPT: (usize, usize) = (16, 20 << 10);

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: expected a number")))
}

/// Returns the parsers to run: all, or the one that SODA_FUZZ_ONLY names.
fn chosen() -> impl Iterator<Item = &'static Target> {
    let only = std::env::var("SODA_FUZZ_ONLY").ok();
    TARGETS.iter().filter(move |target| only.as_ref().is_none_or(|only| only == target.name))
}

#[test]
fn every_input_of_the_corpus_is_read_or_rejected() {
    let _alone = memory::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let mut count = 0;
    for target in chosen() {
        for (path, input) in kept(target.name) {
            count += 1;
            if let Err(what) = check(target, &input, folder.path()) {
                panic!("{} {}: {what}", target.name, path.display());
            }
        }
    }
    println!("{count} inputs of the corpus");
    assert!(count > 100 || std::env::var_os("SODA_FUZZ_ONLY").is_some(), "the corpus is missing");
}

#[test]
fn every_parser_reads_or_rejects_mutated_inputs() {
    let _alone = memory::alone();
    let total = number("SODA_FUZZ").unwrap_or(FEW);
    let seed = number("SODA_FUZZ_SEED").unwrap_or(1) as u64;
    assert_eq!(TARGETS.iter().map(|t| t.share).sum::<usize>(), 1_000_000);
    let (mut sum, mut failures) = (0, Vec::new());
    for target in chosen() {
        let start = Instant::now();
        let count = (total as u64 * target.share as u64).div_ceil(1_000_000).max(LEAST) as usize;
        let Found { count, parsed, new, failure } = fuzz(target, count, seed);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:18} {count:9} inputs, {parsed:9} parsed, {:3} of a new kind, {seconds:7.1} s",
            target.name,
            new.len()
        );
        sum += count;
        if std::env::var_os("SODA_FUZZ_KEEP").is_some() {
            let (mut new, mut bytes) = (new, 0);
            new.sort_by_key(Vec::len);
            for input in new.iter().take(KEPT.0) {
                bytes += input.len();
                if bytes <= KEPT.1 {
                    keep(target.name, input);
                }
            }
        }
        if let Some((what, input)) = failure {
            failures.push(format!(
                "{}: {what}; it is in {}",
                target.name,
                keep(target.name, &input).display()
            ));
        }
    }
    println!("total: {sum} inputs, {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Without a readable seed, the fuzzer would reach only the first checks of a parser.
#[test]
fn every_parser_reads_one_of_its_seeds_and_rejects_a_mutated_one() {
    let _alone = memory::alone();
    let folder = tempfile::tempdir().expect("a folder");
    for target in &TARGETS {
        let seeds = (target.seeds)();
        let outcomes: Vec<Outcome> =
            seeds.iter().map(|seed| check(target, seed, folder.path()).expect("a seed")).collect();
        assert!(outcomes.iter().any(Result::is_ok), "{}: {outcomes:?}", target.name);
        let Found { count, parsed, .. } = fuzz(target, 200, 2);
        assert!(parsed < count, "{}: nothing was rejected", target.name);
    }
}

/// A data set is rejected as a whole if any part is wrong, so mutations reach deep only if the rest
/// is valid.
#[test]
fn every_seed_of_a_data_set_is_read() {
    let _alone = memory::alone();
    for target in TARGETS.iter().filter(|target| target.name.starts_with("data_")) {
        let folder = tempfile::tempdir().expect("a folder");
        for (i, seed) in (target.seeds)().iter().enumerate() {
            let outcome = check(target, seed, folder.path())
                .unwrap_or_else(|what| panic!("{} {i} {what}", target.name));
            outcome.unwrap_or_else(|e| panic!("{} {i}: {e}", target.name));
        }
    }
}

/// A parser with faults that few inputs trigger.
fn faulty(input: &[u8], _: &Path) -> Outcome {
    match input {
        [b'p', b'a', .., 0xff] => panic!("planted"),
        [b'm', b'e', .., 0xff] => Ok(vec![1u8; 100 << 20].len().to_string()),
        [b's', b'l', .., 0xff] => {
            std::thread::sleep(Duration::from_millis(210));
            Ok("slow".into())
        }
        [_, _, .., 0xff] => Ok("end".into()),
        _ => Err("refused".into()),
    }
}

#[test]
fn planted_faults_are_found() {
    let _alone = memory::alone();
    let seeds: [(Seeds, &str); 3] = [
        (|| vec![b"pa..........".to_vec()], "panicked: "),
        (|| vec![b"me..........".to_vec()], "took 100 MiB of memory"),
        (|| vec![b"sl..........".to_vec()], "took 0.2 s"),
    ];
    for (seeds, part) in seeds {
        let target = Target {
            name: "faulty",
            run: faulty,
            seeds,
            layers: &[],
            words: &[],
            share: 0,
            memory: engine::MEMORY,
            time: Duration::from_millis(200),
        };
        let (what, input) = fuzz(&target, 100_000, 1).failure.expect("found");
        assert!(what.contains(part), "{what}");
        assert_eq!(input.last(), Some(&0xff));
        // The same input again, and none without the fault.
        assert_eq!(fuzz(&target, 100_000, 1).failure.expect("found").1, input);
        let sound = Target { run: |_, _| Err("refused".into()), ..target };
        assert!(fuzz(&sound, 1000, 1).failure.is_none());
    }
}
