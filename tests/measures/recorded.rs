//! A step that is recorded without computing it, compared with a step that runs.

use burn::tensor::{Device, Tensor};
use soda::config::{BUILT_IN, Config};
use soda::device::{Class, Profile, adapters, select};
use soda::kernels::catalog::random;
use soda::kernels::conv2d::{Conv2dOptions, conv2d, pass_work};
use soda::kernels::profile::observe;
use soda::kernels::record::{BURN, Recording, record_running};
use soda::train::trial::{Trial, recorded};
use std::collections::BTreeMap;

fn config(images: usize) -> Config {
    let (name, text) =
        BUILT_IN.iter().find(|(name, _)| name.ends_with("quick.toml")).expect("a recipe");
    Config::parse(text, name, &[format!("train.batch_size={images}")]).expect("a recipe")
}

fn launches(recording: &Recording) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for launch in &recording.launches {
        *all.entry(launch.name.to_owned()).or_default() += launch.launches;
    }
    all
}

#[test]
fn a_recorded_step_has_the_launches_and_the_memory_of_a_real_step() {
    let _alone = crate::alone();
    let adapter =
        adapters().into_iter().next().expect("an adapter; scripts/test.sh installs a software one");
    let device = select(&adapter.selector()).expect("the adapter");
    let small = config(2);
    let recording = recorded(&small, &device, adapter.profile.clone()).expect("a recording");
    // The allocator also counts other tensors, which live all the time.
    let before =
        device.device.clone().inner().memory_pool_usage().expect("an adapter's").bytes_in_use;

    let mut trial = Trial::new(&small, &device);
    trial.step(2).expect("a step");
    let (done, profile) = observe(false, || trial.step(2));
    done.expect("a step");
    let mut names = launches(&recording);
    // A trial counts its step once more, see `Tally::check`.
    *names.get_mut(BURN).expect("Burn's") += 1;
    let mut made: BTreeMap<String, u64> = BTreeMap::new();
    for (name, kernel) in &profile.kernels {
        *made
            .entry(if names.contains_key(name) { name.clone() } else { BURN.to_owned() })
            .or_default() += kernel.launches;
    }
    assert_eq!(names, made);
    assert!(names.len() > 15 && recording.count() > 500, "{names:?}");

    let (done, running) = record_running(|| (), |()| trial.step(2));
    done.expect("a step");
    assert_eq!(launches(&running), names);
    let used = (running.used_bytes - before) as f64;
    let near = |live: u64| (live as f64 / used - 1.0).abs() < 0.1;
    assert!(near(recording.live_bytes), "counted {}, used {used}", recording.live_bytes);
    // A step with more images holds more, and the count shows it.
    let larger = recorded(&config(8), &device, adapter.profile.clone()).expect("a recording");
    assert!(
        larger.live_bytes > recording.live_bytes && !near(larger.live_bytes),
        "{}",
        larger.live_bytes
    );
}

#[test]
fn a_step_is_recorded_with_the_kernels_of_another_class() {
    let _alone = crate::alone();
    let adapter =
        adapters().into_iter().next().expect("an adapter; scripts/test.sh installs a software one");
    let device = select(&adapter.selector()).expect("the adapter");
    let tiled = |class| {
        let recording = recorded(&config(2), &device, Profile::least(class)).expect("a recording");
        let shaders = recording.launches.iter().filter_map(|launch| launch.shader.as_ref());
        let tiled = shaders.filter(|(file, _)| *file == "conv2d_tiled").count();
        let operations: f64 = recording.launches.iter().map(|launch| launch.work.operations).sum();
        (tiled, operations)
    };
    let ((of_gpus, work), (of_software, same)) = (tiled(Class::Gpu), tiled(Class::Software));
    assert!(of_gpus > 50 && of_software == 0, "{of_gpus} {of_software}");
    assert!((work / same - 1.0).abs() < 1e-9 && work > 1e9, "{work} {same}");
}

#[test]
fn what_runs_on_the_cpu_is_recorded_with_its_work() {
    let _alone = crate::alone();
    let device = Device::flex();
    let (x, weight, options) = (
        random([2, 8, 6, 6], 1, &device),
        random([4, 8, 3, 3], 2, &device),
        Conv2dOptions::same(3, 1),
    );
    let (y, recording) =
        record_running(|| (), |()| conv2d(x.clone(), weight.clone(), None, None, options));
    let [launch] = recording.launches.as_slice() else { panic!("{recording:?}") };
    assert_eq!(
        (launch.name, launch.work),
        ("conv2d forward", pass_work([2, 8, 6, 6], [4, 8, 3, 3], options))
    );
    // It ran, and without a request nothing is recorded.
    let again = conv2d(x, weight, None, None, options);
    let values = |y: Tensor<4>| y.into_data().try_to_vec::<f32>().expect("f32");
    assert_eq!(values(y), values(again));
    assert_eq!((recording.live_bytes, recording.used_bytes), (0, 0));
}
