//! `soda devices`: the list of devices.

use crate::cli::args::Common;
use crate::cli::device::{adapters, hidden, select};
use crate::cli::output::Output;
use indicatif::BinaryBytes;
use serde_json::{Value, json};
use soda::config::Config;
use soda::device::{Adapter, Kind, Selected};
use soda::error::Result;
use soda::files;
use soda::kernels::conv2d::f16_path;
use soda::machine;
use soda::model::layers::step_operations;
use soda::selftest;
use soda::train::trial;
use soda::units::rate;
use std::time::Duration;

/// The recipes for which expected rates are shown: the defaults on a GPU and on a CPU.
const OF_GPUS: &str = "cifar10";
const OF_CPUS: &str = "small";

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Lists every adapter, and the device that `auto` selects.
pub fn run(common: &Common) -> Result<()> {
    let mut output = Output::new("devices");
    let found = adapters();
    let chosen = select("auto")?;
    let mut rates = serde_json::Map::new();
    for a in found.iter().filter(|a| a.same_as.is_none()) {
        let images_per_s = expected(a)?;
        rates.insert(a.selector(), json!({ "recipe": OF_GPUS, "images_per_s": images_per_s }));
        print(a, &found, images_per_s);
    }
    if let Some(missed) = &chosen.missed {
        outln!("{missed}");
    } else if let Some(hidden) = hidden() {
        outln!("{hidden}");
    } else if found.is_empty() {
        outln!("no adapter found: install a Vulkan driver, or use the CPU");
    }
    let cpu = select("cpu")?;
    let images_per_s = timed(&cpu)?;
    rates.insert("cpu".into(), json!({ "recipe": OF_CPUS, "images_per_s": images_per_s }));
    let machine = machine::describe();
    outln!("cpu       {} (Burn's CPU backend, always available)", cpu.name);
    if let Some(mib) = machine["memory_mib"].as_f64() {
        outln!("    memory     {}", BinaryBytes((mib * f64::from(1 << 20)) as u64));
    }
    outln!("    training   about {} images/s of {OF_CPUS} (a timed step)", rate(images_per_s));
    outln!("auto takes {} ({})", chosen.describe(), chosen.why);
    outln!("CUDA is not needed: Vulkan drives NVIDIA cards too");
    output.device(&chosen);
    output.set("why", json!(chosen.why));
    output.set("missed", json!(chosen.missed));
    output.set("adapters", json!(found));
    output.set("machine", machine);
    output.set("expected", Value::Object(rates));
    output.write(common)
}

/// Prints what is known about the adapter `a`, one of `found`.
fn print(a: &Adapter, found: &[Adapter], images_per_s: Option<f64>) {
    outln!("{}  {} ({})", a.selector(), a.name, a.kind.label());
    outln!("    driver     {}", a.driver);
    if let Some(bytes) = a.memory {
        outln!("    memory     {}", BinaryBytes(bytes));
    }
    match images_per_s {
        _ if a.kind == Kind::Software => outln!("    training   slower than the CPU itself"),
        Some(n) => outln!("    training   up to {} images/s of {OF_GPUS}", rate(n)),
        None => {
            outln!("    training   not measured; `soda selftest --device {}` does it", a.selector())
        }
    }
    let l = &a.limits;
    outln!(
        "    limits     storage binding {}, buffer {}, {} storage buffers per shader, \
         workgroup {} invocations and {}, subgroup {}..{}",
        BinaryBytes(l.max_storage_binding),
        BinaryBytes(l.max_buffer),
        l.storage_buffers,
        l.workgroup_invocations,
        BinaryBytes(l.workgroup_memory.into()),
        l.subgroup_size[0],
        l.subgroup_size[1],
    );
    for same in found.iter().filter(|other| other.same_as.as_ref() == Some(&a.selector())) {
        outln!("    also       {} with driver {}", same.selector(), same.driver);
    }
    outln!("    f16        convolutions: {}", f16_path(&a.profile));
    outln!(
        "    features   {}",
        if a.features.is_empty() { "none that soda uses".into() } else { a.features.join(", ") }
    );
}

/// Returns the images per second that training reaches on `adapter` if all convolutions of a step
/// are as fast as the one that the self test measured; `None` if it has no measurement for it.
fn expected(adapter: &Adapter) -> Result<Option<f64>> {
    let config = Config::named(OF_GPUS.as_ref(), &[])?;
    let speed = selftest::measured(adapter);
    Ok(speed.map(|speed| speed / step_operations(&config.model, config.train.denoisings)))
}

/// Returns the images per second of a training step on the CPU. The step is timed once a day for
/// each version of the program, CPU model and number of threads; the result is kept in the user's
/// cache folder.
fn timed(cpu: &Selected) -> Result<f64> {
    let config = Config::named(OF_CPUS.as_ref(), &[])?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = machine::describe()["cpu"].to_string();
    let key = format!("{} {:?} {model} {threads}", env!("CARGO_PKG_VERSION"), machine::commit());
    let name = &files::sha256(key.as_bytes())[..16];
    let path = dirs::cache_dir().map(|dir| dir.join("soda/rates").join(name));
    files::kept(
        "the training rate of the CPU",
        path.as_deref(),
        |path| {
            // The machine may have been busy.
            let age = std::fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()?;
            let text = std::fs::read_to_string(path).ok().filter(|_| age < A_DAY)?;
            text.trim().parse().ok()
        },
        || Ok(config.train.batch_size as f64 / trial::rate(&config, cpu)?.step),
        |rate: &f64, path| files::write_atomically(path, format!("{rate}\n").as_bytes()),
    )
}
