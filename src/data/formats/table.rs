//! A table of images: a CSV, TSV or JSON file with a column of paths and, optionally, columns of
//! labels and sets.

mod rows;

use super::shared::{OfSet, choose, classes_of, some_of, title};
use crate::data::listing::{Entry, LeftOut, Listing, Set, files};
use crate::error::{Error, Result};
use crate::units::counted;
use rows::Rows;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Extensions of files that are tables whatever they hold.
pub(super) const ENDINGS: [&str; 5] = [".csv", ".tsv", ".json", ".jsonl", ".ndjson"];
/// The largest table that is read, in bytes.
const LARGEST: u64 = 1 << 30;

const PATHS: [&str; 9] = [
    "path",
    "file",
    "filename",
    "filepath",
    "image",
    "imagepath",
    "imagefile",
    "imagefilename",
    "img",
];
const LABELS: [&str; 8] =
    ["label", "class", "target", "labels", "classname", "labelname", "category", "y"];
const SETS: [&str; 3] = ["split", "set", "subset"];

/// A row that is part of the data set.
struct Row {
    name: String,
    path: PathBuf,
    label: Option<String>,
    set: Option<Set>,
}

impl OfSet for Row {
    fn set(&mut self) -> &mut Option<Set> {
        &mut self.set
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Lists the table `place`. Paths in it are relative to its own folder.
///
/// # Errors
/// A table that can't be read, has no column of paths, names files that don't exist, or gives an
/// image two labels.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let shown = place.display();
    let wrong = |reason: String| Error::failed(format!("{shown} {reason}"));
    let failed = |e| Error::io("read", place, &e);
    if std::fs::metadata(place).map_err(failed)?.len() > LARGEST {
        return Err(wrong(format!(
            "is larger than {} MiB; split the table, or pack the images",
            LARGEST >> 20
        )));
    }
    let bytes = crate::files::read(place).map_err(failed)?;
    let table = Rows::read(&bytes, &title(place))
        .map_err(|reason| wrong(format!("cannot be read as a table: {reason}")))?;
    drop(bytes);
    let column = |wanted: &[&str]| {
        wanted.iter().find_map(|name| table.columns.iter().position(|c| plain(c) == *name))
    };
    let Some(path_column) = column(&PATHS) else {
        let columns = if table.columns.is_empty() {
            "no columns".into()
        } else {
            format!("the columns {}, but none of paths", some_of(&table.columns))
        };
        return Err(wrong(format!(
            "has {columns}; name the column of paths `path`, and that of labels `label`"
        )));
    };
    let (label_column, set_column) = (column(&LABELS), column(&SETS));
    let cell = |row: &rows::Row, column: Option<usize>| {
        let column = column?;
        row.iter().find(|(at, _)| *at == column).map(|(_, text)| text.clone())
    };

    let folder = place.parent().unwrap_or(Path::new(""));
    let (mut found, mut left_out, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen: HashMap<String, Option<String>> = HashMap::new();
    for (i, row) in table.rows.iter().enumerate() {
        let label = cell(row, label_column);
        let Some(written) = cell(row, Some(path_column)) else {
            LeftOut::add(&mut left_out, "rows without a path", || format!("row {}", i + 1));
            continue;
        };
        let name = written.replace('\\', "/").trim_start_matches("./").to_owned();
        if label_column.is_some() && label.is_none() {
            LeftOut::add(&mut left_out, "rows without a label", || name);
            continue;
        }
        match seen.get(&name) {
            Some(first) if *first == label => {
                LeftOut::add(&mut left_out, "rows that repeat another", || name);
                continue;
            }
            Some(first) => {
                let [first, label] = [first, &label].map(|l| l.clone().unwrap_or_default());
                return Err(wrong(format!(
                    "lists {name} as {first} and as {label}; an image has one label: remove one \
                     of the rows"
                )));
            }
            None => seen.insert(name.clone(), label.clone()),
        };
        let set = cell(row, set_column).and_then(|set| Set::named(&set));
        let path =
            [&written, &name].map(|path| folder.join(path)).into_iter().find(|path| path.is_file());
        match path {
            None => missing.push(name),
            Some(path) => found
                .push((Row { name, path, label, set: set.map(|s| s.0) }, set.is_some_and(|s| s.1))),
        }
    }
    if !missing.is_empty() {
        let (files, first) = (counted(missing.len(), "file"), some_of(&missing));
        return Err(wrong(format!(
            "lists {files} missing on disk: {first}; its paths are relative to its own folder: \
             move the table, or fix the paths"
        )));
    }
    if found.is_empty() {
        return Err(wrong("lists no images; give it one row per image".into()));
    }
    let rows = choose(found, &mut left_out, "images");
    let (classes, labels) = match label_column {
        Some(_) => classes_of(
            &rows.iter().map(|row| row.label.as_deref().unwrap_or_default()).collect::<Vec<_>>(),
            place,
        )?,
        None => (Vec::new(), vec![0; rows.len()]),
    };
    let said = |what: &str, column: Option<usize>| match column {
        Some(column) => format!("{what} in the column {}", table.columns[column]),
        None => format!("no column of {what}"),
    };
    let [images, classes_in, sets] = [
        said("images", Some(path_column)),
        said("classes", label_column),
        said("sets", set_column),
    ];
    let reading = format!("a table with {images}, {classes_in}, {sets}");
    let (entries, paths) = rows
        .into_iter()
        .zip(labels)
        .map(|(Row { name, path, set, .. }, label)| (Entry { name, label, set }, path))
        .unzip();
    let name = format!("images of {}", title(place));
    Ok(Some(Listing {
        name,
        reading,
        classes,
        entries,
        left_out,
        contents: files(paths),
        by_turns: true,
    }))
}

/// Normalises a column's name for comparison: "File_Name" becomes "filename".
fn plain(column: &str) -> String {
    column.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
