//! Merges the shards of a table.

use super::args::names_beside;
use super::lines::Lines;
use super::manifest::Manifest;
use super::shard::Shard;
use serde_json::{Value, json};
use soda::error::{Error, Result};
use soda::eval::table::{Known, Table, read_parquet, write_labels};
use soda::files;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Merges the shards of `out` into it, in their order, writes their labels to `labels_to`, and
/// returns the number of rows and of shards.
///
/// # Errors
/// If a shard is missing, damaged or made differently from the others, they have no labels to
/// write, or a file can't be written.
pub fn merge(out: &Path, labels_to: Option<&Path>) -> Result<(usize, usize)> {
    let manifests = found(out)?;
    let first = manifests.first().ok_or_else(|| {
        let pattern = Shard { index: 0, of: 4 }.path(out);
        Error::usage(format!(
            "--merge: there are no shards of {}, such as {}",
            out.display(),
            pattern.display()
        ))
    })?;
    let of = first.1.of;
    if let Some((other, manifest)) = manifests.iter().find(|(_, manifest)| manifest.of != of) {
        return Err(Error::failed(format!(
            "there are shards of {of} ({}) and of {} ({}); remove the ones you don't want",
            first.0.display(),
            manifest.of,
            other.display()
        )));
    }
    let mut shards = Vec::new();
    for index in 0..of {
        let path = Shard { index, of }.path(out);
        let own = manifests.iter().find(|(other, _)| *other == path);
        let Some((_, manifest)) = own.filter(|_| path.exists()) else {
            return Err(Error::failed(format!(
                "{} is missing or not finished; make it with --shard {index}/{of}",
                path.display()
            )));
        };
        if manifest.shard != index {
            return Err(Error::failed(format!(
                "the JSON of {} names it shard {}; make it again",
                path.display(),
                manifest.shard
            )));
        }
        if let Some(what) = manifest.differs(&first.1) {
            return Err(Error::failed(format!(
                "{} and {} differ in {what}; make one of them again",
                first.0.display(),
                path.display()
            )));
        }
        if manifest.listed != first.1.listed {
            return Err(Error::failed(format!(
                "{} and {} were made from different files: some were added or removed in between; \
                 make all shards again",
                first.0.display(),
                path.display()
            )));
        }
        if files::sha256_of(&path)? != manifest.table_sha256 {
            return Err(Error::failed(format!(
                "{} has changed since it was written; make it again with --shard {index}/{of}",
                path.display()
            )));
        }
        shards.push((path, manifest));
    }
    let known = Known { split: first.1.split.clone(), classes: first.1.classes.clone() };
    let labelled = !known.classes.is_empty();
    if let Some(path) = labels_to.filter(|_| !labelled) {
        return Err(Error::usage(format!(
            "--labels {}: the shards have none, since they were not made with --split",
            path.display()
        )));
    }
    let mut labels = Vec::new();
    if labelled {
        for (path, _) in &shards {
            read_parquet(path, |_, own, _| {
                labels.extend(own);
                Ok(())
            })?;
        }
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut metadata: BTreeMap<String, String> =
        first.1.settings.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    metadata.insert("weights_sha256".into(), first.1.weights_sha256.clone());
    metadata.extend(labelled.then(|| ("classes".into(), json!(first.1.classes).to_string())));
    let column = if first.1.settings.get("features").is_some_and(|kind| kind == "z") {
        "z"
    } else {
        "features"
    };
    let mut table =
        Table::create(out, column, first.1.dim, known, labelled.then_some(&labels[..]), metadata)?;
    let beside = first.1.named && !Table::holds_names(out)?;
    let mut lines = if beside { Some(Lines::create(&names_beside(out))?) } else { None };
    for (path, manifest) in &shards {
        let before = table.rows();
        read_parquet(path, |names, own, values| {
            if values.len() != names.len() * manifest.dim {
                return Err(Error::failed(format!(
                    "{} holds rows of a length other than {}",
                    path.display(),
                    manifest.dim
                )));
            }
            if let Some(lines) = &mut lines {
                names.iter().try_for_each(|name| lines.add(name))?;
            }
            table.append(&values, &names, &own)
        })?;
        if table.rows() - before != manifest.rows {
            return Err(Error::failed(format!(
                "{} holds {} rows, not {}",
                path.display(),
                table.rows() - before,
                manifest.rows
            )));
        }
    }
    let rows = table.rows();
    table.finish()?;
    lines.map_or(Ok(()), Lines::finish)?;
    labels_to.map_or(Ok(()), |path| write_labels(path, &labels))?;
    Ok((rows, of))
}

/// Returns the shards of `out` that have a JSON, whatever they contain.
fn found(out: &Path) -> Result<Vec<(PathBuf, Manifest)>> {
    let folder = files::folder(out);
    let stem = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io("read", folder, &e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for json in paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
    {
        let name = json.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let shard = name
            .strip_prefix(&stem)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.split_once("-of-"));
        let Some((index, of)) =
            shard.and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)))
        else {
            continue;
        };
        let path = Shard { index, of }.path(out);
        if let Some(manifest) = Manifest::read(&path)? {
            all.push((path, manifest));
        }
    }
    Ok(all)
}
