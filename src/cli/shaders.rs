//! `soda shaders`, hidden: the texts of all shaders, for tools that check or compile them.

use super::Common;
use crate::error::{Error, Result};
use crate::files::{create_dir, sha256, write_atomically};
use crate::kernels::catalog::{operations, shaders};
use crate::kernels::shader::Filled;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `soda shaders`.
#[derive(clap::Args)]
pub struct Args {
    /// A folder that doesn't exist yet, or is empty.
    folder: PathBuf,
}

/// Writes each text to a file of its own, and manifest.json, which says what each needs.
pub fn run(args: &Args, _common: &Common) -> Result<()> {
    let folder = &args.folder;
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::usage(format!("{} isn't empty: name a folder of its own", folder.display())));
    }
    create_dir(folder)?;
    let mut rows = Vec::new();
    for (operation, filled) in shaders(operations()) {
        let file = format!("{}-{}.wgsl", filled.kernel, &sha256(filled.text.as_bytes())[..8]);
        write_atomically(&folder.join(&file), filled.text.as_bytes())?;
        rows.push(row(operation, &file, &filled));
    }
    let count = rows.len();
    let manifest = serde_json::to_string_pretty(&json!({ "shaders": rows })).expect("JSON");
    write_atomically(&folder.join("manifest.json"), manifest.as_bytes())?;
    outln!("{count} shaders in {}", folder.display());
    Ok(())
}

fn row(operation: &str, file: &str, filled: &Filled) -> Value {
    let bindings: Vec<&str> = std::iter::repeat_n("storage", filled.buffers).chain(["uniform"]).collect();
    json!({
        "file": file, "operation": operation, "kernel": filled.kernel, "variant": filled.variant,
        "extensions": filled.extensions.names(), "workgroup_size": [filled.workgroup, 1, 1], "bindings": bindings,
    })
}
