//! Checks the folder of generated shaders that `soda shaders DIR` writes: its manifest, every
//! shader's validity with exactly the extensions that it names, its translations for Vulkan, Metal
//! and Direct3D 12, its interface, and WebGPU's default limits.

use check_shaders::check::{self, Translation};
use check_shaders::manifest::Folder;
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks the folder of generated shaders that `soda shaders DIR` writes
#[derive(Parser)]
struct Arguments {
    /// The folder: manifest.json and the shaders that it names
    dir: PathBuf,
    /// Keep the translations: OUT/NAME.spv, .metal and .hlsl for each NAME.wgsl
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Prints every failure; returns whether there was none.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let report = check::folder(&Folder::read(&arguments.dir)?);
    if let Some(out) = &arguments.out {
        report.translations.iter().try_for_each(|t| keep(out, t))?;
    }
    for failure in &report.failures {
        println!("FAILED {failure}");
    }
    for ((target, extension), n) in &report.unwritable {
        println!("{n} shaders not translated to {target}: naga can't write {extension} in it");
    }
    println!("{report}");
    Ok(report.failures.is_empty())
}

fn keep(out: &Path, translation: &Translation) -> Result<(), String> {
    let path = out.join(&translation.file).with_extension(translation.target.ending());
    let written =
        std::fs::create_dir_all(out).and_then(|()| std::fs::write(&path, &translation.text));
    written.map_err(|e| format!("{}: {e}", path.display()))
}
