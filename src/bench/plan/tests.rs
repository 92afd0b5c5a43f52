//! Tests of the plan.

use super::*;

fn target(device: &str, gpu: bool) -> Target {
    Target { place: Place { device: device.into(), ..Place::default() }, gpu }
}

#[test]
fn the_first_step_of_every_device_comes_first_and_paper_size_only_on_a_gpu() {
    let cpu = target("cpu", false);
    let all =
        jobs(&[cpu.clone(), target("vulkan:0", false), target("vulkan:1", true)], &cpu, Suite::All);
    let names: Vec<String> =
        all.iter().map(|j| format!("{} {}", j.target.place.device, j.group)).collect();
    assert_eq!(
        names[..8],
        [
            "cpu step:32",
            "vulkan:0 step:32",
            "vulkan:1 step:32",
            "cpu inference",
            "cpu kernels",
            "cpu step:64",
            "cpu data",
            "vulkan:0 inference"
        ]
    );
    let paper: Vec<&String> = names.iter().filter(|n| n.contains("paper")).collect();
    assert_eq!(paper, ["vulkan:1 step:paper"]);
    assert_eq!(names.iter().filter(|n| n.contains("data")).count(), 1);
    let only = jobs(&[target("vulkan:0", true)], &cpu, Suite::Kernels);
    assert_eq!(only.iter().map(|j| j.group).collect::<Vec<_>>(), [Group::Kernels]);
    assert!(all.iter().all(|j| j.group != Group::Host), "only on request");
    let only = jobs(&[target("vulkan:0", true)], &cpu, Suite::Host);
    assert_eq!(only.iter().map(|j| j.group).collect::<Vec<_>>(), [Group::Host]);
    assert!(
        jobs(std::slice::from_ref(&cpu), &cpu, Suite::Host).is_empty(),
        "paper size is not for a CPU"
    );
}

#[test]
fn a_recipe_is_the_only_job_of_each_device_and_jobs_are_named_as_they_are_read() {
    let cpu = target("cpu", false);
    let own = of_recipe(&[cpu.clone(), target("vulkan:0", true)]);
    let names: Vec<String> =
        own.iter().map(|j| format!("{} {}", j.target.place.device, j.group)).collect();
    assert_eq!(names, ["cpu step:recipe", "vulkan:0 step:recipe"]);
    assert!((share(100.0, &own) - 50.0).abs() < 1e-9, "both get half");
    let others = [Suite::All, Suite::Host].map(|s| jobs(&[target("vulkan:0", true)], &cpu, s));
    for job in own.iter().chain(others.iter().flatten()) {
        assert_eq!(job.group.to_string().parse(), Ok(job.group));
    }
}

#[test]
fn shares_use_up_the_budget_and_pass_on_unused_time() {
    let cpu = target("cpu", false);
    let all = jobs(std::slice::from_ref(&cpu), &cpu, Suite::All);
    let mut left = 100.0;
    for i in 0..all.len() {
        let share = share(left, &all[i..]);
        assert!(share > 0.0 && share <= left);
        left -= share;
    }
    assert!(left.abs() < 1e-9, "{left}");
    // Had the first job used nothing, the second would have more.
    assert!(share(100.0, &all[1..]) > share(100.0 - share(100.0, &all), &all[1..]));
}

#[test]
fn a_small_budget_goes_to_the_first_steps_of_all_devices() {
    let (cpu, gpu) = (target("cpu", false), target("vulkan:0", true));
    let all = jobs(&[cpu.clone(), gpu], &cpu, Suite::All);
    let first = share(20.0, &all);
    assert!((first - 5.0).abs() < 1e-9, "{first}");
    assert!((share(20.0 - first, &all[1..]) - 7.5).abs() < 1e-9);
    // The others share what is left by their weights alone.
    assert!(share(7.5, &all[2..]) < 3.0);

    // Without the CPU, the view pipeline still comes after the first steps.
    let gpus = [target("vulkan:0", true), target("vulkan:1", true)];
    let names: Vec<String> =
        jobs(&gpus, &cpu, Suite::All).iter().map(|j| j.group.to_string()).collect();
    assert_eq!(names[..4], ["step:32", "step:32", "data", "inference"]);
    let steps = jobs(&gpus, &cpu, Suite::Step);
    let devices: Vec<&str> = steps.iter().map(|j| j.target.place.device.as_str()).collect();
    assert_eq!(devices[..3], ["vulkan:0", "vulkan:1", "vulkan:0"]);
}

#[test]
fn a_wider_step_is_predicted_from_the_narrow_one_of_its_own_device() {
    let job = |device: &str| Planned {
        target: target(device, false),
        group: Group::Step(Size::Width(64)),
    };
    let row = |median_ms| Row {
        width: Some(32),
        cold_start_s: Some(20.0),
        median_ms,
        ..Row::new("train_step", &target("vulkan:0", false).place)
    };
    assert_eq!(prediction(&job("vulkan:0"), &[row(Some(10_000.0))]), Some(50.0));
    assert_eq!(prediction(&job("vulkan:0"), &[row(None)]), Some(60.0));
    assert_eq!(prediction(&job("cpu"), &[row(None)]), None);
}

#[test]
fn names_of_jobs_can_be_parsed_back() {
    let groups = [
        Group::Step(Size::Width(64)),
        Group::Step(Size::Paper),
        Group::Inference,
        Group::Kernels,
        Group::Data,
        Group::Host,
    ];
    for group in groups {
        assert_eq!(group.to_string().parse::<Group>(), Ok(group));
    }
    assert!("step:7".parse::<Group>().is_err() && "nothing".parse::<Suite>().is_err());
}
