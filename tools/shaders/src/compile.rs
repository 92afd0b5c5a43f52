//! Compiles shaders of the folder that `soda shaders DIR` writes with the Vulkan driver that the
//! loader finds, which may have no hardware, and prints the results as JSON. Also analyses
//! disassemblies from other compilers.

use check_shaders::disassembly::Code;
use check_shaders::manifest::Folder;
use check_shaders::module::validate;
use check_shaders::translate::Target;
use check_shaders::vulkan::{Compiled, Driver};
use clap::Parser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Prints what a Vulkan driver, or another compiler, makes of generated shaders
#[derive(Parser)]
struct Arguments {
    /// The folder: manifest.json and the shaders that it names
    #[arg(required_unless_present = "disassembly")]
    dir: Option<PathBuf>,
    /// Only these files of the folder
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep the machine code: OUT/NAME.txt for each NAME.wgsl
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Read disassemblies instead of compiling
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["dir", "only", "out"])]
    disassembly: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(found) => {
            println!("{found:#}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn named(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |e| format!("{}: {e}", path.display())
}

fn run(arguments: &Arguments) -> Result<Value, String> {
    let Some(dir) = &arguments.dir else {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).map_err(named(path))?;
            Ok((path.display().to_string(), Code::read(&text).json()))
        };
        return arguments
            .disassembly
            .iter()
            .map(read)
            .collect::<Result<serde_json::Map<_, _>, String>>()
            .map(Value::Object);
    };
    let folder = Folder::read(dir)?;
    if let Some(unknown) = arguments.only.iter().find(|file| !folder.texts.contains_key(*file)) {
        return Err(format!("{}: no such file in the folder", dir.join(unknown).display()));
    }
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).map_err(named(out))?;
    }
    let driver = Driver::new()?;
    let mut shaders = serde_json::Map::new();
    for shader in folder
        .manifest
        .shaders
        .iter()
        .filter(|s| arguments.only.is_empty() || arguments.only.contains(&s.file))
    {
        let valid = validate(&folder.texts[&shader.file], &shader.extensions)?;
        let spirv = Target::SpirV.translate(&valid, &shader.extensions)?;
        let Compiled { statistics, assembly } =
            driver.compile(&valid, &spirv).map_err(|e| format!("{shader}: {e}"))?;
        if let Some(out) = &arguments.out {
            let path = out.join(&shader.file).with_extension("txt");
            std::fs::write(&path, &assembly).map_err(named(&path))?;
        }
        let statistics: serde_json::Map<_, _> =
            statistics.into_iter().map(|(name, value)| (name, json!(value))).collect();
        let compiled = json!({
            "workgroup_memory": valid.workgroup_bytes(),
            "element_bytes": valid.element_bytes(),
            "statistics": statistics,
            "code": Code::read(&assembly).json(),
        });
        shaders.insert(shader.file.clone(), compiled);
    }
    Ok(json!({ "adapter": driver.name, "driver": driver.driver, "shaders": shaders }))
}
