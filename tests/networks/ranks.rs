//! Training by several ranks gives the same bits as one process with the same micro-batches.

use crate::training::{cpu, data, newest, tiny};
use soda::config::Config;
use soda::device::{Selected, select};
use soda::error::Result;
use soda::ranks::{Ranks, threads};
use soda::run_dir::RunDir;
use soda::train::exchange::{Among, Wire};
use soda::train::follow::follow;
use soda::train::run::{Options, train};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const FILES: [&str; 3] = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];

/// All values of the newest checkpoint, as bits, by file and name.
type Bits = Vec<HashMap<String, Vec<u32>>>;

fn bits(run: &RunDir) -> Bits {
    let of = |file: &&str| {
        newest(run, file)
            .into_iter()
            .map(|(name, values)| (name, values.iter().map(|v| v.to_bits()).collect()))
    };
    FILES.iter().map(|file| of(file).collect()).collect()
}

fn adapter() -> Selected {
    select("wgpu").expect("an adapter; scripts/test.sh installs a software one")
}

/// Trains `config` in `folder` in one process, or resumes it.
fn alone(folder: &Path, config: &Config, device: &Selected) -> Bits {
    let run = RunDir::new(folder);
    let options = Options { resume: true, allow_change: true, ..Options::default() };
    train(config, &data(), device, &run, &options).expect("trains");
    bits(&run)
}

/// Does the same with ranks on these devices; only the first one has access to `folder`.
fn together(
    folder: &Path,
    config: &Config,
    devices: &[Selected],
    shares: Option<Vec<usize>>,
    wire: Wire,
) -> Bits {
    let run = RunDir::new(folder);
    let work = |ranks: Ranks| -> Result<()> {
        let device = devices[ranks.rank()].clone();
        if ranks.rank() > 0 {
            return follow(&ranks, |_, _| Ok((device, data())), &AtomicBool::new(false));
        }
        let among = Some(Among { ranks, shares: shares.clone(), wire, resume: String::new() });
        let options = Options { resume: true, allow_change: true, among, ..Options::default() };
        train(config, &data(), &device, &run, &options).map(drop)
    };
    threads::run(devices.len(), work).into_iter().for_each(|done| done.expect("trains"));
    bits(&run)
}

/// Asserts that ranks on `devices`, all of one kind, end in the same bits as one process with
/// micro-batches of these sizes.
fn is_the_same(devices: &[Selected], shares: Option<Vec<usize>>, parts: &str, sets: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = format!("train.micro_batch={parts}");
    let mut cut = sets.to_vec();
    cut.push(&parts);
    let one = alone(&folder.path().join("one"), &tiny(&cut), &devices[0]);
    let many = together(&folder.path().join("many"), &tiny(sets), devices, shares, Wire::F32);
    assert!(one == many, "{sets:?} in parts of {parts}");
    // Negative control: whole batches give different bits.
    assert!(one != alone(&folder.path().join("whole"), &tiny(sets), &devices[0]), "{sets:?}");
}

#[test]
fn ranks_on_the_cpu_end_bit_for_bit_where_one_process_does() {
    is_the_same(&[cpu(), cpu()], None, "4", &["train.batch_size=8"]);
    // A batch that isn't divided evenly, random values that depend on the micro-batch, and
    // everything that one process sums over micro-batches.
    let sets = [
        "train.batch_size=8",
        "train.denoisings=2",
        "train.stratified_t=true",
        "train.decorrelation=0.01",
        "train.layer_mask=0.2",
        "train.weight_decay=0.1",
    ];
    is_the_same(&[cpu(), cpu(), cpu()], None, "3", &sets);
    is_the_same(
        &[cpu(), cpu()],
        Some(vec![2, 1]),
        "[5,3]",
        &["train.batch_size=8", "train.precision=mixed"],
    );
}

#[test]
fn ranks_on_an_adapter_end_bit_for_bit_where_one_process_does() {
    is_the_same(
        &[adapter(), adapter()],
        None,
        "4",
        &["train.batch_size=8", "train.steps=3", "train.checkpoint_every=2"],
    );
    is_the_same(
        &[adapter(), adapter()],
        None,
        "4",
        &["train.batch_size=8", "train.precision=mixed", "train.steps=2"],
    );
}

#[test]
fn a_run_resumes_with_any_number_of_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = |steps: &str, parts: &str| {
        tiny(&[
            "train.batch_size=8",
            &format!("train.steps={steps}"),
            &format!("train.micro_batch={parts}"),
        ])
    };
    let (one, many) = (folder.path().join("one"), folder.path().join("many"));
    // 2 ranks, then 1, then 3.
    let all = [cpu(), cpu(), cpu()];
    let steps = [("3", "4"), ("5", "0"), ("7", "3")]
        .map(|(steps, parts)| alone(&one, &to(steps, parts), &all[0]));
    let first = together(&many, &to("3", "0"), &all[..2], None, Wire::F32);
    let second = alone(&many, &to("5", "0"), &all[0]);
    let third = together(&many, &to("7", "0"), &all, None, Wire::F32);
    assert!(steps == [first, second, third]);
}

#[test]
fn ranks_on_different_devices_keep_the_same_weights() {
    // Every checkpoint compares them, and training ends if they differ.
    let folder = tempfile::tempdir().expect("a folder");
    let sets = ["train.batch_size=8", "train.steps=20", "train.checkpoint_every=10"];
    let of = |name: &str, sets: &[&str], more: &str| {
        alone(&folder.path().join(name), &tiny(&[sets, &[more]].concat()), &cpu())
    };
    let parts = of("parts", &sets, "train.micro_batch=4");
    let (whole, other) = (of("whole", &sets, "train.micro_batch=0"), of("other", &sets, "seed=2"));
    let distance = |one: &Bits, other: &Bits| -> f32 {
        let all = one[0].iter().flat_map(|(name, values)| values.iter().zip(&other[0][name]));
        let all: Vec<f32> =
            all.map(|(a, b)| (f32::from_bits(*a) - f32::from_bits(*b)).abs()).collect();
        all.iter().sum::<f32>() / all.len() as f32
    };
    for (name, wire) in [("f32", Wire::F32), ("f16", Wire::F16)] {
        let mixed =
            together(&folder.path().join(name), &tiny(&sets), &[cpu(), adapter()], None, wire);
        // The result is close to that of one process with the same micro-batches: closer than with
        // whole batches, and much closer than with another seed.
        let (off, from_whole, from_other) =
            (distance(&mixed, &parts), distance(&mixed, &whole), distance(&mixed, &other));
        println!("{name}: {off} {from_whole} {from_other}");
        assert!(
            off > 0.0 && off < 0.5 * from_whole && off < 0.02 * from_other,
            "{name}: {off}, {from_whole}, {from_other}"
        );
    }
}
