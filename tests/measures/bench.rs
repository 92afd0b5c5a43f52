//! The benchmark: its command as a user sees it, failing jobs, and the kernels that only it uses.

mod merge;
mod recipe;

use crate::common::{assert_close, error, wgpu};
use burn::tensor::{Device, Tensor};
use serde_json::Value;
use soda::bench::plan::{Suite, Target, jobs};
use soda::bench::row::{Message, Place, Row};
use soda::bench::runner::{self, Outcome};
use soda::device::{Kind, adapters};
use soda::kernels::catalog::random;
use soda::kernels::conv2d::{Conv2dOptions, conv2d};
use soda::kernels::peak;
use soda::kernels::vjp::vjp;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

fn soda(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soda"))
        .args(args)
        .current_dir(folder)
        .env("HOME", folder)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the program starts")
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the JSON file")).expect("JSON")
}

#[test]
fn kernels_of_the_cpu_have_finite_times_peaks_and_shares() {
    let _alone = crate::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let args = [
        "bench", "--suite", "kernels", "--device", "cpu", "--budget", "4", "--json", "k.json",
        "--plot", "k.png",
    ];
    let out = soda(folder.path(), &args);
    let text = succeeds(&out);
    let report = json(&folder.path().join("k.json"));
    assert_eq!((&report["command"], &report["device"]), (&"bench".into(), &"cpu".into()));
    assert!(report["machine"]["threads"].as_u64().expect("threads") > 0);
    let rows = report["rows"].as_array().expect("rows");
    for row in rows {
        for field in ["device", "backend", "adapter", "precision", "kind"] {
            assert!(row[field].is_string(), "{field} of {row}");
        }
        let median = row["median_ms"].as_f64().expect("a median");
        assert!(median.is_finite() && median > 0.0, "{row}");
        // Unknown values are null, never missing or 0.
        for field in [
            "spread",
            "launches",
            "images_per_s",
            "peak_memory_mib",
            "cold_start_s",
            "tflops",
            "gb_per_s",
        ] {
            assert!(row.get(field).is_some_and(|v| *v != 0), "{field} of {row}");
        }
    }
    let of = |op: &str| {
        rows.iter().find(|r| r["op"] == op).unwrap_or_else(|| panic!("{op} is missing: {text}"))
    };
    assert!(of("copy")["gb_per_s"].as_f64().expect("a speed") > 0.1);
    assert!(of("multiply_add")["tflops"].as_f64().expect("a speed") > 1e-4);
    assert!(of("ada_gn_forward")["share_of_peak"].as_f64().expect("a share") > 0.0);
    // A single device has nothing to be compared with: no chart, and a message about it.
    assert!(!folder.path().join("k.png").exists());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        said.lines().any(|l| l.contains("k.png is not drawn") && l.contains("--device all")),
        "{said}"
    );

    let report = ["bench", "--compare", "k.json", "k.json", "--json", "c.json"];
    assert!(succeeds(&soda(folder.path(), &report)).contains("1.00 x"));
    let compared = json(&folder.path().join("c.json"));
    assert_eq!(compared["rows"].as_array().expect("rows").len(), rows.len());
    assert!(compared["rows"].as_array().expect("rows").iter().all(|r| r["ratio"] == 1.0));
}

#[test]
fn jobs_that_do_not_fit_are_skipped_by_name_and_software_is_not_called_a_gpu() {
    let _alone = crate::alone();
    // Nothing fits into this time, on any hardware.
    let adapter = adapters()
        .into_iter()
        .max_by_key(|a| !a.kind.is_gpu())
        .expect("scripts/test.sh installs an adapter");
    let folder = tempfile::tempdir().expect("a folder");
    let device = adapter.selector();
    let clock = Instant::now();
    let args = [
        "bench", "--device", &device, "--suite", "step", "--budget", "0.05", "--json", "s.json",
        "--plot", "s.png",
    ];
    let out = soda(folder.path(), &args);
    let text = succeeds(&out);
    assert!(clock.elapsed().as_secs_f64() < 60.0, "not killed in time");
    assert!(
        text.contains(&format!("skipped on {device}: ")) && text.contains("width 32"),
        "{text}"
    );
    assert!(text.contains("width 64"), "{text}");
    let report = json(&folder.path().join("s.json"));
    let skipped = report["skipped"].as_array().expect("what was skipped");
    assert!(
        skipped
            .iter()
            .all(|s| s["device"] == device && s["reason"].as_str().is_some_and(|r| !r.is_empty()))
    );
    assert!(skipped.len() >= 2, "{skipped:?}");
    let all = text + &String::from_utf8_lossy(&out.stderr) + &report.to_string();
    if !adapter.kind.is_gpu() {
        assert!(!all.replace("no GPU", "").replace(&adapter.name, "").contains("GPU"), "{all}");
    }
    let place = soda::bench::row::Place::of(&soda::device::select(&device).expect("the adapter"));
    assert_eq!(place.kind == Kind::Software.label(), !adapter.kind.is_gpu());
    assert!(Kind::Software.label().contains("no GPU"));
}

#[test]
fn networks_are_measured_in_half_precision_if_a_device_has_it() {
    let _alone = crate::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let bench = |args: &[&str]| soda(folder.path(), &[&["bench", "--budget", "6"], args].concat());
    let denoise = |precision: &str| {
        let file = format!("{precision}.json");
        succeeds(&bench(&[
            "--suite",
            "inference",
            "--device",
            "cpu",
            "--precision",
            precision,
            "--json",
            &file,
        ]));
        let report = json(&folder.path().join(file));
        let rows = report["rows"].as_array().expect("rows");
        let row = rows
            .iter()
            .find(|row| row["op"] == "denoise")
            .unwrap_or_else(|| panic!("{report}"))
            .clone();
        assert_eq!(row["precision"], precision);
        assert!(row["median_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    };
    ["f16-emulated", "f32"].into_iter().for_each(denoise);
    // The same case in two precisions is compared.
    let compared =
        succeeds(&soda(folder.path(), &["bench", "--compare", "f32.json", "f16-emulated.json"]));
    assert!(
        compared.lines().any(|line| line.contains("denoise") && line.ends_with(" x")),
        "{compared}"
    );

    let refused = |args: &[&str], words: &str| {
        let output = soda(folder.path(), &[&["bench"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words), "{said}");
    };
    refused(
        &["--suite", "inference", "--device", "cpu", "--precision", "f16"],
        "the CPU computes in f32",
    );
    refused(
        &["--suite", "kernels", "--device", "cpu", "--precision", "f16-emulated"],
        "--suite step or --suite inference",
    );
    refused(&["--estimate", "a40", "--precision", "f16"], "train.precision=mixed");
}

#[test]
fn a_lost_job_is_one_line_and_the_others_continue() {
    let _alone = crate::alone();
    let place = |device: &str| Place { device: device.into(), ..Place::default() };
    let target = |device: &str| Target { place: place(device), gpu: false };
    let (gone, cpu) = (target("vulkan:17"), target("cpu"));
    let planned: Vec<_> = jobs(&[gone, cpu.clone()], &cpu, Suite::All)
        .into_iter()
        .filter(|j| ["step:32", "data"].contains(&j.group.to_string().as_str()))
        .filter(|j| j.target.place.device != "cpu" || j.group.to_string() == "data")
        .collect();
    let command = |job: &soda::bench::plan::Planned, seconds: f64| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_soda"));
        let (group, seconds) = (job.group.to_string(), format!("{seconds:.1}"));
        command.args([
            "bench",
            "--job",
            &group,
            "--device",
            &job.target.place.device,
            "--job-seconds",
            &seconds,
        ]);
        command.env_remove("RUST_BACKTRACE");
        command
    };
    let mut started = Vec::new();
    let outcome =
        runner::run(&planned, 6.0, command, &AtomicBool::new(false), |i, _, _| started.push(i));
    assert_eq!(started, [0, 1]);
    let Outcome { rows, skipped, .. } = outcome;
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0].device, "vulkan:17");
    assert!(
        skipped[0].op.contains("training step, width 32")
            && skipped[0].reason.contains("there is no device"),
        "{skipped:?}"
    );
    assert_eq!(rows.iter().map(|r| r.op.as_str()).collect::<Vec<_>>(), ["view_pairs"]);
    assert!(rows[0].images_per_s.is_some_and(|v| v > 10.0));

    // With the flag set, nothing is started.
    let outcome =
        runner::run(&planned, 6.0, command, &AtomicBool::new(true), |i, _, _| started.push(i));
    assert_eq!((started.len(), outcome.rows.len(), outcome.skipped.len()), (2, 0, 2));
    assert!(outcome.skipped.iter().all(|s| s.reason == "interrupted"));
}

#[test]
fn a_jobs_process_ends_with_its_parent() {
    let _alone = crate::alone();
    let mut child = Command::new(env!("CARGO_BIN_EXE_soda"))
        .args(["bench", "--job", "data", "--device", "cpu", "--job-seconds", "60"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("text");
    let first = serde_json::from_str::<Message>(&line).expect("a message");
    assert!(matches!(first, Message::Planned(_)), "it works: {line}");
    drop(child.stdin.take());
    let clock = Instant::now();
    child.wait().expect("it ends");
    // The job alone would take 60 seconds.
    assert!(clock.elapsed().as_secs_f64() < 30.0);
}

#[test]
fn rows_survive_the_transfer_between_processes() {
    let place = Place {
        device: "vulkan:0".into(),
        backend: "vulkan".into(),
        adapter: "a".into(),
        kind: "discrete GPU".into(),
        driver: None,
    };
    let row = Row { shape: Some(vec![1, 2]), launches: Some(3), ..Row::new("copy", &place) };
    let line = serde_json::to_string(&Message::Row(Box::new(row.clone()))).expect("JSON");
    assert!(!line.contains('\n'));
    assert_eq!(
        serde_json::from_str::<Message>(&line).expect("a message"),
        Message::Row(Box::new(row.clone()))
    );
    let value = serde_json::to_value(&row).expect("JSON");
    let names: Vec<&str> =
        value.as_object().expect("an object").keys().map(String::as_str).collect();
    for name in [
        "op",
        "device",
        "backend",
        "adapter",
        "kind",
        "shape",
        "width",
        "batch",
        "precision",
        "median_ms",
        "spread",
        "repetitions",
        "gb_per_s",
        "tflops",
        "share_of_peak",
        "images_per_s",
        "launches",
        "peak_memory_mib",
        "cold_start_s",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
}

#[test]
fn compare_refuses_files_that_are_not_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::write(at.join("no.json"), "{}").expect("writable");
    std::fs::write(at.join("text.json"), "nothing").expect("writable");
    std::fs::write(at.join("good.json"), r#"{"command": "bench", "rows": []}"#).expect("writable");
    for (file, code) in [("no.json", 2), ("text.json", 2), ("gone.json", 1)] {
        let out = soda(at, &["bench", "--compare", "good.json", file]);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(file) && !stderr.contains("panicked"), "{stderr}");
    }
    assert!(
        succeeds(&soda(at, &["bench", "--compare", "good.json", "good.json"]))
            .contains("no case in common")
    );
    for budget in ["0", "-1", "nan"] {
        assert_eq!(soda(at, &["bench", &format!("--budget={budget}")]).status.code(), Some(2));
    }
    assert_eq!(soda(at, &["bench", "--device", "vulkan:17"]).status.code(), Some(2));
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

#[test]
fn peak_kernels_compute_what_they_claim() {
    let _alone = crate::alone();
    for device in [Device::flex(), wgpu()] {
        let x = random([3 * 1024], 0, &device);
        let want = values(x.clone());
        assert_eq!(values(peak::copy(x.clone())), want, "copy on {device:?}");
        assert_close("multiply_add", &values(peak::multiply_add(x.clone(), 40)), &want, 1e-6, 1e-6);
        // Negative control: after two rounds the initial values still matter.
        assert!(error(&values(peak::multiply_add(x, 2)), &want, 1e-6, 1e-6) > 100.0);
    }
}

#[test]
fn vjp_is_the_gradient_of_the_weighted_sum() {
    let _alone = crate::alone();
    let options = Conv2dOptions::same(3, 1);
    for device in [Device::flex(), wgpu()] {
        let device = device.autodiff();
        let gradients = |factor: f32, by_vjp: bool| {
            let x = random([2, 3, 5, 5], 0, &device).require_grad();
            let weight = random([4, 3, 3, 3], 1, &device).require_grad();
            let dy = random([2, 5, 5, 4], 2, &device).permute([0, 3, 1, 2]) * factor;
            let y = conv2d(x.clone(), weight.clone(), None, None, options);
            let grads = if by_vjp { vjp(y, dy) } else { (y * dy).sum().backward() };
            [
                values(x.grad(&grads).expect("x is tracked")),
                values(weight.grad(&grads).expect("the weight is tracked")),
            ]
        };
        let (got, want, other) =
            (gradients(1.0, true), gradients(1.0, false), gradients(1.01, true));
        for i in 0..2 {
            assert_close("vjp", &got[i], &want[i], 1e-5, 1e-6);
            assert!(
                error(&other[i], &want[i], 1e-5, 1e-6) > 10.0,
                "another dy gives the same gradients"
            );
        }
    }
}

#[test]
fn a_step_is_estimated_for_a_card_that_is_not_in_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = [
        "bench",
        "--estimate",
        "rtx3060",
        "--config",
        "quick",
        "--set",
        "train.batch_size=4",
        "--json",
        "e.json",
    ];
    let shown = succeeds(&soda(folder.path(), &small));
    assert!(
        shown.contains("An estimate, nothing measured") && shown.contains("conv2d forward"),
        "{shown}"
    );
    let json: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("e.json")).expect("written"))
            .expect("JSON");
    let [fast, slow] = [0, 1].map(|end| json["step_ms"][end].as_f64().expect("a time"));
    assert!(json["estimate"] == true && 0.0 < fast && fast < slow, "{json}");
    assert!(json["live_bytes"].as_u64().is_some_and(|bytes| bytes > 10 << 20), "{json}");
    let unknown = soda(folder.path(), &["bench", "--estimate", "gtx9"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("a40, arc770, m1, rtx3060, rx6800"));
    let card = "name = 'Mine'\ntflops = 1.0\ngb_per_s = 100.0\nvendor = 1\nintegrated = true\n\
                compiler = 'gcc'\nsources = []\n";
    std::fs::write(folder.path().join("mine.toml"), card).expect("written");
    let unknown = soda(folder.path(), &["bench", "--estimate", "mine.toml"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("dg2, ga102, navi21, sm_86"));
}
