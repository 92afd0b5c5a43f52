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
    let shards = complete(out)?;
    let (_, first) = &shards[0];
    let labelled = !first.classes.is_empty();
    if let Some(path) = labels_to.filter(|_| !labelled) {
        return Err(Error::usage(format!(
            "--labels {}: the shards have none, since they were not made with --split",
            path.display()
        )));
    }
    let labels = if labelled { Some(labels_of(&shards)?) } else { None };
    let known = Known { split: first.split.clone(), classes: first.classes.clone() };
    let kind = first.settings.get("features");
    let column = if kind.is_some_and(|kind| kind == "z") { "z" } else { "features" };
    let mut table =
        Table::create(out, column, first.dim, known, labels.as_deref(), metadata_of(first))?;
    let beside = first.named && !Table::holds_names(out)?;
    let mut lines = if beside { Some(Lines::create(&names_beside(out))?) } else { None };
    for (path, manifest) in &shards {
        append(&mut table, lines.as_mut(), path, manifest)?;
    }
    let rows = table.rows();
    table.finish()?;
    lines.map_or(Ok(()), Lines::finish)?;
    labels_to.map_or(Ok(()), |path| write_labels(path, &labels.unwrap_or_default()))?;
    Ok((rows, shards.len()))
}

/// Returns all shards of `out` in their order, at least one.
///
/// # Errors
/// If one is missing, has changed since it was written, or was made differently from the first.
fn complete(out: &Path) -> Result<Vec<(PathBuf, Manifest)>> {
    let mut manifests = found(out)?;
    let first = manifests.first().map(|(path, manifest)| (path, manifest.of));
    let Some((first, of)) = first.filter(|(_, of)| *of > 0) else {
        let pattern = Shard { index: 0, of: 4 }.path(out);
        return Err(Error::usage(format!(
            "--merge: there are no shards of {}, such as {}",
            out.display(),
            pattern.display()
        )));
    };
    if let Some((other, manifest)) = manifests.iter().find(|(_, manifest)| manifest.of != of) {
        return Err(Error::failed(format!(
            "there are shards of {of} ({}) and of {} ({}); remove the ones you don't want",
            first.display(),
            manifest.of,
            other.display()
        )));
    }
    let mut shards = Vec::new();
    for index in 0..of {
        let path = Shard { index, of }.path(out);
        let own = manifests.iter().position(|(other, _)| *other == path);
        let Some(own) = own.filter(|_| path.exists()) else {
            return Err(Error::failed(format!(
                "{} is missing or not finished; make it with --shard {index}/{of}",
                path.display()
            )));
        };
        let shard = manifests.swap_remove(own);
        check(&shard, index, shards.first().unwrap_or(&shard))?;
        shards.push(shard);
    }
    Ok(shards)
}

/// Checks that a shard is the one with the number `index`, unchanged, and made like `first`.
fn check(
    (path, manifest): &(PathBuf, Manifest),
    index: usize,
    (first_path, first): &(PathBuf, Manifest),
) -> Result<()> {
    let shown = path.display();
    if manifest.shard != index {
        return Err(Error::failed(format!(
            "the JSON of {shown} names it shard {}; make it again",
            manifest.shard
        )));
    }
    if let Some(what) = manifest.differs(first) {
        return Err(Error::failed(format!(
            "{} and {shown} differ in {what}; make one of them again",
            first_path.display()
        )));
    }
    if manifest.listed != first.listed {
        return Err(Error::failed(format!(
            "{} and {shown} were made from different files: some were added or removed in between; \
             make all shards again",
            first_path.display()
        )));
    }
    if files::sha256_of(path)? != manifest.table_sha256 {
        return Err(Error::failed(format!(
            "{shown} has changed since it was written; make it again with --shard {index}/{}",
            manifest.of
        )));
    }
    Ok(())
}

/// Reads the labels of all rows.
fn labels_of(shards: &[(PathBuf, Manifest)]) -> Result<Vec<u16>> {
    let mut labels = Vec::new();
    for (path, _) in shards {
        read_parquet(path, |_, own, _| {
            labels.extend(own);
            Ok(())
        })?;
    }
    Ok(labels)
}

/// Returns the metadata of the merged table.
fn metadata_of(manifest: &Manifest) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut metadata: BTreeMap<String, String> =
        manifest.settings.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    metadata.insert("weights_sha256".into(), manifest.weights_sha256.clone());
    if !manifest.classes.is_empty() {
        metadata.insert("classes".into(), json!(manifest.classes).to_string());
    }
    metadata
}

/// Appends the rows of the shard at `path` to `table`, and their names to `lines`, if given.
fn append(
    table: &mut Table,
    mut lines: Option<&mut Lines>,
    path: &Path,
    manifest: &Manifest,
) -> Result<()> {
    let before = table.rows();
    read_parquet(path, |names, labels, values| {
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
        table.append(&values, &names, &labels)
    })?;
    let rows = table.rows() - before;
    if rows != manifest.rows {
        return Err(Error::failed(format!(
            "{} holds {rows} rows, not {}",
            path.display(),
            manifest.rows
        )));
    }
    Ok(())
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
