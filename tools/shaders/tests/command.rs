//! The check-shaders command: what it prints, what it writes, its exit code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TEXT: &str = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { x[id.x] = 0.0; }
";

const MANIFEST: &str = r#"{"shaders": [{"file": "zero.wgsl", "operation": "zero",
    "kernel": "zero forward", "variant": "Zero",
    "extensions": [], "workgroup_size": [64, 1, 1], "bindings": ["storage"]}]}"#;

/// Writes a separate folder for one test.
fn folder(name: &str, manifest: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    fs::write(dir.join("zero.wgsl"), TEXT).unwrap();
    dir
}

/// Runs the command; returns whether it succeeded, and all its output.
fn check(arguments: &[&Path]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_check-shaders")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_good_folder_passes_and_its_translations_are_kept() {
    let dir = folder("good", MANIFEST);
    let out = dir.with_file_name("good translations");
    let (passed, said) = check(&[&dir, Path::new("--out"), &out]);
    assert!(passed, "{said}");
    assert_eq!(
        said,
        "1 shaders of 1 operations: 1 valid, 1 in SPIR-V, 1 in MSL, 1 in HLSL; 0 failures\n"
    );
    assert!(fs::read(out.join("zero.spv")).unwrap().starts_with(&[0x03, 0x02, 0x23, 0x07]));
    assert!(fs::read_to_string(out.join("zero.metal")).unwrap().contains("kernel void"));
    assert!(fs::read_to_string(out.join("zero.hlsl")).unwrap().contains("[numthreads(64, 1, 1)]"));
}

#[test]
fn a_failure_is_one_line_and_the_exit_code() {
    let (passed, said) = check(&[&folder("size", &MANIFEST.replace("[64, 1, 1]", "[32, 1, 1]"))]);
    assert!(!passed);
    let first = "FAILED zero forward, Zero, zero.wgsl: a workgroup of [64, 1, 1], [32, 1, 1] in \
        the manifest\n";
    assert_eq!(
        said,
        format!(
            "{first}1 shaders of 1 operations: 1 valid, 1 in SPIR-V, 1 in MSL, 1 in HLSL; \
             1 failures\n"
        )
    );
}

#[test]
fn a_folder_without_valid_shaders_is_refused() {
    let refused = |dir: &Path, reason: &str| {
        let (passed, said) = check(&[dir]);
        assert!(
            !passed && said.starts_with("error: ") && said.contains(reason),
            "{said} instead of {reason}"
        );
    };
    refused(Path::new("no such folder"), "no such folder: ");
    refused(&folder("extension", &MANIFEST.replace("[]", "[\"f61\"]")), "unknown variant `f61`");
    refused(
        &folder("field", &MANIFEST.replace("\"kernel\"", "\"kernels\"")),
        "unknown field `kernels`",
    );
    refused(
        &folder("missing", &MANIFEST.replace("\"variant\": \"Zero\",", "")),
        "missing field `variant`",
    );
    let dir = folder("unnamed", MANIFEST);
    fs::remove_file(dir.join("manifest.json")).unwrap();
    refused(&dir, "no manifest.json");
    let dir = folder("binary", MANIFEST);
    fs::write(dir.join("zero.spv"), [0xff, 0xfe]).unwrap();
    refused(&dir, "zero.spv: ");
}
