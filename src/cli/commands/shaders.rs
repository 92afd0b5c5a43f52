//! `soda shaders`, hidden: writes the source of all shaders, for tools that check or compile them.

use serde_json::{Value, json};
use soda::config::Config;
use soda::error::{Error, Result};
use soda::files::{create_dir, sha256, write_atomically};
use soda::kernels::catalog::{launched, operations, shaders};
use soda::kernels::shader::Filled;
use soda::model::layers::{denoiser, encoder};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `soda shaders`.
#[derive(clap::Args)]
pub struct Args {
    /// Output folder, new or empty.
    folder: PathBuf,
}

/// Writes each shader to a file, and manifest.json, which lists what each shader needs and which
/// recipes launch it on GPUs.
pub fn run(args: &Args) -> Result<()> {
    let folder = &args.folder;
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::usage(format!(
            "{} isn't empty; name a new or empty folder",
            folder.display()
        )));
    }
    create_dir(folder)?;
    let mut recipes = BTreeMap::<String, Vec<&str>>::new();
    let mut all = shaders(operations());
    for name in RECIPES {
        let config = Config::built_in(name, &[])?;
        let batch = config.train.at_once();
        let encoder = launched(operations(), &encoder(&config.model), batch);
        let denoiser =
            launched(operations(), &denoiser(&config.model), batch * config.train.denoisings);
        for (operation, filled) in encoder.into_iter().chain(denoiser) {
            if !all.iter().any(|(_, known)| known.text == filled.text) {
                all.push((operation, filled.clone()));
            }
            // Both networks may launch the same shader.
            let by = recipes.entry(filled.text).or_default();
            if by.last() != Some(&name) {
                by.push(name);
            }
        }
    }
    let mut rows = Vec::new();
    for (operation, filled) in all {
        let file = format!("{}-{}.wgsl", filled.kernel, &sha256(filled.text.as_bytes())[..8]);
        write_atomically(&folder.join(&file), filled.text.as_bytes())?;
        rows.push(row(
            operation,
            &file,
            &filled,
            recipes.get(&filled.text).map_or(&[], Vec::as_slice),
        ));
    }
    let count = rows.len();
    let manifest = serde_json::to_string_pretty(&json!({ "shaders": rows })).expect("JSON");
    write_atomically(&folder.join("manifest.json"), manifest.as_bytes())?;
    outln!("{count} shaders in {}", folder.display());
    Ok(())
}

/// The recipes of the table of GPU compilers: the size of the paper, a small one, larger images.
const RECIPES: [&str; 3] = ["paper", "tiny", "folder64"];

fn row(operation: &str, file: &str, filled: &Filled, recipes: &[&str]) -> Value {
    let bindings: Vec<&str> =
        std::iter::repeat_n("storage", filled.buffers).chain(["uniform"]).collect();
    json!({
        "file": file, "operation": operation, "kernel": filled.kernel, "variant": filled.variant,
        "extensions": filled.extensions.names(), "workgroup_size": [filled.workgroup, 1, 1], "bindings": bindings,
        "multiply_adds": filled.multiply_adds, "recipes": recipes,
    })
}
