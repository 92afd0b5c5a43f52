//! `soda bench --merge` and `--markdown`

use crate::cli::args::Common;
use crate::cli::device::adapters;
use crate::cli::output::Output;
use serde_json::json;
use soda::bench::merge::{self, Entry};
use soda::bench::publish;
use soda::bench::row::Place;
use soda::error::{Error, Result};
use soda::progress::say;
use std::path::PathBuf;

/// Merges the results in `files`.
pub fn run(files: &[PathBuf], markdown: bool, common: &Common, mut output: Output) -> Result<()> {
    let results = files.iter().map(|file| merge::read(file)).collect::<Result<Vec<_>>>()?;
    let merged = merge::merge(results);
    print(&merged, markdown);
    output.set("merged", json!(files));
    output.set("rows", json!(merged));
    output.write(common)
}

/// Returns the rows of `output`, a result of this machine, with the adapters of the same GPU next
/// to each other.
pub fn in_one_table(output: &mut Output) -> Result<Vec<Entry>> {
    let entries = merge::entries(output.finish())
        .map_err(|e| Error::failed(format!("cannot read the rows again: {e}")))?;
    let adapters = adapters();
    // The name of the best adapter for the GPU, which other APIs may name differently.
    let gpu = |place: &Place| {
        let find = |selector: &str| adapters.iter().find(|a| a.selector() == selector);
        let best = find(&place.device).and_then(|a| find(a.same_as.as_ref()?));
        best.map_or_else(|| place.adapter.clone(), |best| best.name.clone())
    };
    Ok(merge::by_gpu(entries, gpu))
}

/// Prints the rows that have images per second.
pub fn print(entries: &[Entry], markdown: bool) {
    let table = if markdown { publish::markdown(entries) } else { publish::text(entries) };
    out!("{table}");
    let left_out = publish::left_out(entries);
    if left_out > 0 {
        say(&format!("{left_out} rows without images per second are left out of the table"));
    }
}
