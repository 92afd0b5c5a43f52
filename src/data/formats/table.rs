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
    let table = read(place)?;
    let columns = Columns::of(&table, place)?;
    let mut left_out = Vec::new();
    let found = existing(&table, &columns, place, &mut left_out)?;
    let rows = choose(found, &mut left_out, "images");
    let (classes, labels) = match columns.labels {
        Some(_) => classes_of(
            &rows.iter().map(|row| row.label.as_deref().unwrap_or_default()).collect::<Vec<_>>(),
            place,
        )?,
        None => (Vec::new(), vec![0; rows.len()]),
    };
    let has_sets = rows.iter().any(|row| row.set.is_some());
    let (entries, paths) = rows
        .into_iter()
        .zip(labels)
        .map(|(Row { name, path, set, .. }, label)| (Entry { name, label, set }, path))
        .unzip();
    Ok(Some(Listing {
        name: format!("images of {}", title(place)),
        reading: columns.describe(&table, has_sets),
        classes,
        entries,
        left_out,
        contents: files(paths),
        by_turns: true,
    }))
}

/// Returns the error that says what is wrong with the table `place`.
fn wrong(place: &Path, reason: &str) -> Error {
    Error::failed(format!("{} {reason}", place.display()))
}

fn read(place: &Path) -> Result<Rows> {
    let failed = |e| Error::io("read", place, &e);
    if std::fs::metadata(place).map_err(failed)?.len() > LARGEST {
        let most = LARGEST >> 20;
        let reason = format!("is larger than {most} MiB; split the table, or pack the images");
        return Err(wrong(place, &reason));
    }
    let bytes = crate::files::read(place).map_err(failed)?;
    Rows::read(&bytes, &title(place))
        .map_err(|reason| wrong(place, &format!("cannot be read as a table: {reason}")))
}

/// The numbers of the columns that are read.
struct Columns {
    paths: usize,
    labels: Option<usize>,
    sets: Option<usize>,
}

impl Columns {
    /// Finds the columns by their names.
    fn of(table: &Rows, place: &Path) -> Result<Self> {
        let column = |wanted: &[&str]| {
            wanted.iter().find_map(|name| table.columns.iter().position(|c| plain(c) == *name))
        };
        let Some(paths) = column(&PATHS) else {
            let columns = if table.columns.is_empty() {
                "no columns".into()
            } else {
                format!("the columns {}, but none of paths", some_of(&table.columns))
            };
            let remedy = "name the column of paths `path`, and that of labels `label`";
            return Err(wrong(place, &format!("has {columns}; {remedy}")));
        };
        Ok(Self { paths, labels: column(&LABELS), sets: column(&SETS) })
    }

    /// Describes how the table is read; `has_sets` tells whether a row names a set.
    fn describe(&self, table: &Rows, has_sets: bool) -> String {
        let said = |what: &str, column: Option<usize>| match column {
            Some(column) => format!("{what} in the column {}", table.columns[column]),
            None => format!("no column of {what}"),
        };
        let images = said("images", Some(self.paths));
        let (classes, sets) = (said("classes", self.labels), said("sets", self.sets));
        let unknown = if self.sets.is_some() && !has_sets {
            ", which names none (train, test, validation)"
        } else {
            ""
        };
        format!("a table with {images}, {classes}, {sets}{unknown}")
    }
}

/// Returns the rows to read, each once, and whether it is of a validation set; counts the others in
/// `left_out`.
///
/// # Errors
/// If files are missing, none are left, or an image has two labels.
fn existing(
    table: &Rows,
    columns: &Columns,
    place: &Path,
    left_out: &mut Vec<LeftOut>,
) -> Result<Vec<(Row, bool)>> {
    let folder = place.parent().unwrap_or(Path::new(""));
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut seen: HashMap<String, Option<String>> = HashMap::new();
    for (i, row) in table.rows.iter().enumerate() {
        let label = cell(row, columns.labels);
        let Some(written) = cell(row, Some(columns.paths)) else {
            LeftOut::add(left_out, "rows without a path", || format!("row {}", i + 1));
            continue;
        };
        let name = written.replace('\\', "/").trim_start_matches("./").to_owned();
        if columns.labels.is_some() && label.is_none() {
            LeftOut::add(left_out, "rows without a label", || name);
            continue;
        }
        match seen.get(&name) {
            Some(first) if *first == label => {
                LeftOut::add(left_out, "rows that repeat another", || name);
                continue;
            }
            Some(first) => {
                let [first, label] = [first, &label].map(|l| l.clone().unwrap_or_default());
                let both = format!("lists {name} as {first} and as {label}");
                let remedy = "an image has one label: remove one of the rows";
                return Err(wrong(place, &format!("{both}; {remedy}")));
            }
            None => seen.insert(name.clone(), label.clone()),
        };
        let set = cell(row, columns.sets).and_then(|set| Set::named(&set));
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
        let lists = format!("lists {files} missing on disk: {first}");
        let remedy = "its paths are relative to its own folder: move the table, or fix the paths";
        return Err(wrong(place, &format!("{lists}; {remedy}")));
    }
    if found.is_empty() {
        return Err(wrong(place, "lists no images; give it one row per image"));
    }
    Ok(found)
}

/// Returns the text of `row` in `column`; `None` if the cell is empty.
fn cell(row: &rows::Row, column: Option<usize>) -> Option<String> {
    let column = column?;
    row.iter().find(|(at, _)| *at == column).map(|(_, text)| text.clone())
}

/// Normalises a column's name for comparison: "File_Name" becomes "filename".
fn plain(column: &str) -> String {
    column.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
