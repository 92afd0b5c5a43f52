//! Runs commands with libraries that inject faults.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A fault to inject.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The device is lost.
    Lost,
    /// The device is lost, and only calls that wait for it get the error.
    LostWait,
    /// Work that is submitted while more than this many bytes of memory are allocated is skipped,
    /// but reported as done.
    Silent(u64),
    /// The device has this many bytes of memory.
    Memory(u64),
    /// The driver skips every Nth dispatch.
    Wrong(u64),
    /// No fault: submissions, dispatches and copies are counted.
    Count,
    /// The time of day is alternately this many seconds ahead and behind.
    Clock(i64),
    /// Writing fails with this errno below folders of this name.
    Disk(&'static str, &'static str),
}

/// Builds tests/recovery/faults/NAME.rs as a library; returns its path.
fn library(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    std::fs::create_dir_all(&folder).expect("writable");
    let library = folder.join(format!("lib{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recovery/faults")
        .join(name)
        .with_extension("rs");
    let built = Command::new("rustc")
        .args(["--edition", "2024", "-O", "--crate-type", "cdylib", "-o"])
        .args([&library, &source])
        .output()
        .expect("rustc, which built this test");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// Returns the folder of the Vulkan layer's manifest.
fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let library = library("vulkan_layer");
        let layer = serde_json::json!({ "file_format_version": "1.0.0", "layer": {
            "name": "VK_LAYER_SODA_faults", "type": "GLOBAL", "library_path": library,
            "api_version": "1.3.0", "implementation_version": "1",
            "description": "a driver that fails",
        }});
        let folder = library.parent().expect("a folder");
        std::fs::write(folder.join("faults.json"), layer.to_string()).expect("writable");
        folder.to_owned()
    })
}

fn preload() -> &'static Path {
    static PRELOAD: OnceLock<PathBuf> = OnceLock::new();
    PRELOAD.get_or_init(|| library("preload"))
}

/// Injects `fault` into `command`, while the file `when` exists, or always.
pub fn inject<'a>(command: &'a mut Command, fault: Fault, when: Option<&Path>) -> &'a mut Command {
    let said = match fault {
        Fault::Lost => "lost".into(),
        Fault::LostWait => "lost_wait".into(),
        Fault::Silent(bytes) => format!("silent:{bytes}"),
        Fault::Memory(bytes) => format!("memory:{bytes}"),
        Fault::Wrong(every) => format!("wrong:{every}"),
        Fault::Count => "count".into(),
        Fault::Clock(seconds) => format!("clock:{seconds}"),
        Fault::Disk(errno, _) => errno.into(),
    };
    command.env("FAULT", said);
    if let Some(when) = when {
        command.env("FAULT_WHEN", when);
    }
    match fault {
        Fault::Lost
        | Fault::LostWait
        | Fault::Silent(_)
        | Fault::Memory(_)
        | Fault::Wrong(_)
        | Fault::Count => {
            command.env("VK_LAYER_PATH", layer()).env("VK_INSTANCE_LAYERS", "VK_LAYER_SODA_faults")
        }
        Fault::Disk(_, under) => command.env("LD_PRELOAD", preload()).env("FAULT_UNDER", under),
        Fault::Clock(_) => command.env("LD_PRELOAD", preload()),
    }
}
