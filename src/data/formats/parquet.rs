//! Parquet shards as the Hugging Face hub stores image sets: a column of encoded images, one of
//! labels, and the class names in the file's metadata.

mod columns;
mod fault;
mod features;

pub(crate) use fault::{Fault, guarded};

use super::pages::Source;
use super::shared::{Shard, check_count, choose, classes_of, shards_of, title, unique};
use crate::data::listing::{Content, Contents, Entry, LeftOut, Listing, Set};
use crate::error::{Error, Result};
use crate::units::counted;
use columns::{Columns, Labels};
use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Lists the Parquet shards at `place`: a file, or a folder with shards in it, in its `data`, or in
/// folders named as sets.
///
/// # Errors
/// A shard that is truncated or damaged, has no column of images, or has other columns than the
/// first one; a label without a class name.
pub(crate) fn list(place: &Path) -> Result<Option<Listing>> {
    let mut left_out = Vec::new();
    let shards = if place.is_dir() {
        shards_of(place, ".parquet", &mut left_out)?
    } else {
        vec![(Shard { path: place.to_path_buf(), name: title(place), set: None }, false)]
    };
    if shards.is_empty() {
        return Ok(None);
    }
    let read = shards.into_iter().map(|(shard, validation)| Ok((Table::read(shard)?, validation)));
    let mut tables = read.collect::<Result<Vec<(Table, bool)>>>()?;
    // The test images of many sets have no labels; then the validation images serve as the test
    // set.
    if tables.iter().any(|(table, _)| table.is_labelled()) {
        tables.retain(|(table, _)| {
            let kept = table.is_labelled();
            if !kept {
                LeftOut::add(&mut left_out, "shards without labels", || table.shard.name.clone());
            }
            kept
        });
    }
    let tables = choose(tables, &mut left_out, "shards");
    let (classes, labels) = classes_and_labels(&tables, place)?;
    let names = names(&tables);

    let (mut entries, mut numbers, mut names) = (Vec::new(), Vec::new(), names.into_iter());
    let mut labels = labels.into_iter();
    for table in &tables {
        let mut of_shard = Vec::with_capacity(table.rows);
        for (label, name) in labels.by_ref().zip(names.by_ref()).take(table.rows) {
            of_shard.push(label.map(|_| entries.len()));
            match label {
                Some(label) => entries.push(Entry { name, label, set: table.shard.set }),
                None => LeftOut::add(&mut left_out, "images without a label", || name),
            }
        }
        numbers.push(of_shard);
    }
    let reading = reading(&tables, &classes);
    let shards: Vec<(Shard, Vec<Option<usize>>)> =
        tables.into_iter().map(|table| table.shard).zip(numbers).collect();
    let name = format!("images of {}", title(place));
    Ok(Some(Listing {
        name,
        reading,
        classes,
        entries,
        left_out,
        contents: contents(shards),
        by_turns: true,
    }))
}

/// The contents of a shard apart from the images.
struct Table {
    shard: Shard,
    rows: usize,
    labels: Labels,
    /// The file names of the images.
    paths: Option<Vec<Option<String>>>,
    /// The names of the columns of images and labels.
    columns: (String, Option<String>),
    classes: Option<Vec<String>>,
}

impl super::shared::OfSet for Table {
    fn set(&mut self) -> &mut Option<Set> {
        &mut self.shard.set
    }

    fn name(&self) -> &str {
        &self.shard.name
    }
}

fn open(shard: &Shard) -> Result<(Source, Arc<::parquet::file::metadata::ParquetMetaData>)> {
    let failed = |e| Error::io("read", &shard.path, &e);
    if !std::fs::metadata(&shard.path).map_err(failed)?.is_file() {
        return Err(Error::failed(format!(
            "{} is not a plain file; name a Parquet file",
            shard.path.display()
        )));
    }
    let file = File::open(&shard.path).map_err(failed)?;
    guarded(&shard.path, &Cell::new(false), || Ok(Source::open(file)?))
        .map(|(source, described)| (source, Arc::new(described)))
}

impl Table {
    fn read(shard: Shard) -> Result<Self> {
        let (source, described) = open(&shard)?;
        let shown = shard.path.display();
        let columns = Columns::of(described.file_metadata().schema_descr()).map_err(|reason| {
            Error::failed(format!(
                "{shown} {reason}; name another data set, or a folder of image files"
            ))
        })?;
        guarded(&shard.path, &Cell::new(false), || {
            let rows = columns::rows(&described, source.length())?;
            let labels = columns.labels(&source, &described)?;
            let paths = columns.paths(&source, &described)?;
            let classes = columns
                .label_name()
                .and_then(|label| features::classes(described.file_metadata(), label));
            let columns =
                (columns.image_name().to_owned(), columns.label_name().map(str::to_owned));
            Ok((rows, labels, paths, classes, columns))
        })
        .map(|(rows, labels, paths, classes, columns)| Self {
            shard,
            rows,
            labels,
            paths,
            columns,
            classes,
        })
    }

    /// Checks whether any row has a label.
    fn is_labelled(&self) -> bool {
        let named = self.classes.is_some();
        match &self.labels {
            Labels::None => false,
            Labels::Numbers(labels) => labels.iter().flatten().any(|label| !named || *label >= 0),
            Labels::Texts(labels) => labels.iter().any(Option::is_some),
        }
    }
}

/// Returns the classes, and the label of each row in order; `None` for a row without a label if
/// others have one.
fn classes_and_labels(tables: &[Table], place: &Path) -> Result<(Vec<String>, Vec<Option<u16>>)> {
    let rows = tables.iter().map(|table| table.rows).sum();
    if !tables.iter().any(Table::is_labelled) {
        return Ok((Vec::new(), vec![Some(0); rows]));
    }
    let Some(mut classes) = tables.iter().find_map(|table| table.classes.clone()) else {
        let text = |table: &Table| match &table.labels {
            Labels::None => vec![None; table.rows],
            Labels::Numbers(labels) => {
                labels.iter().map(|label| label.map(|n| n.to_string())).collect()
            }
            Labels::Texts(labels) => labels.clone(),
        };
        let texts: Vec<Option<String>> = tables.iter().flat_map(text).collect();
        let (classes, labels) = classes_of(&texts.iter().flatten().collect::<Vec<_>>(), place)?;
        let mut labels = labels.into_iter();
        return Ok((
            classes,
            texts.iter().map(|text| text.as_ref().and_then(|_| labels.next())).collect(),
        ));
    };
    check_count(classes.len(), place)?;
    unique(&mut classes);
    let mut all = Vec::with_capacity(rows);
    for table in tables {
        let Labels::Numbers(labels) = &table.labels else {
            let shown = table.shard.path.display();
            return Err(Error::failed(format!(
                "{shown} has labels of another type than the other shards; name shards of one \
                 data set"
            )));
        };
        for (row, label) in labels.iter().enumerate() {
            match label {
                // The hub writes -1 for missing labels.
                None | Some(-1) => all.push(None),
                Some(label) => {
                    let known = u16::try_from(*label)
                        .ok()
                        .filter(|label| usize::from(*label) < classes.len());
                    all.push(Some(known.ok_or_else(|| {
                        let (shown, count) = (table.shard.path.display(), classes.len());
                        Error::failed(format!(
                            "{shown} has the label {label} in row {row}, but names {count} \
                             classes; get it again"
                        ))
                    })?));
                }
            }
        }
    }
    Ok((classes, all))
}

/// Returns the paths of the images if each has its own; otherwise shard and row.
fn names(tables: &[Table]) -> Vec<String> {
    let paths = || tables.iter().flat_map(|table| table.paths.iter().flatten());
    let (mut seen, rows) = (HashSet::new(), tables.iter().map(|table| table.rows).sum::<usize>());
    if paths().flatten().all(|path| seen.insert(path)) && seen.len() == rows {
        return paths().flatten().map(|path| path.replace('\\', "/")).collect();
    }
    tables
        .iter()
        .flat_map(|table| (0..table.rows).map(|row| format!("{}:{row}", table.shard.name)))
        .collect()
}

fn reading(tables: &[Table], classes: &[String]) -> String {
    let Some(Table { columns: (image, label), .. }) = tables.first() else {
        return "Parquet without rows".into();
    };
    let shards = counted(tables.len(), "shard");
    match label {
        Some(label) if !classes.is_empty() => {
            format!(
                "Parquet ({shards}) with the images in the column {image} and the labels in {label}"
            )
        }
        _ => format!("Parquet ({shards}) with the images in the column {image}, without labels"),
    }
}

/// Makes the contents of `shards`, each with the number of each row's image.
fn contents(shards: Vec<(Shard, Vec<Option<usize>>)>) -> Contents {
    Box::new(move |visit| {
        for (shard, numbers) in &shards {
            let (source, described) = open(shard)?;
            let changed = || {
                let shown = shard.path.display();
                Error::failed(format!(
                    "{shown} has changed since it was listed; run the command again"
                ))
            };
            let columns =
                Columns::of(described.file_metadata().schema_descr()).map_err(|_| changed())?;
            let (mut rows, visiting) = (numbers.iter(), Cell::new(false));
            guarded(&shard.path, &visiting, || {
                columns.images(&source, &described, &mut |image| {
                    let content = image.map_or_else(
                        || Content::Unreadable("has no image".into()),
                        Content::Encoded,
                    );
                    match rows.next() {
                        None => Err(Fault::Other(changed())),
                        Some(None) => Ok(()),
                        Some(Some(number)) => {
                            visiting.set(true);
                            let visited = visit(*number, content);
                            visiting.set(false);
                            visited.map_err(Fault::Other)
                        }
                    }
                })
            })?;
            if rows.next().is_some() {
                return Err(changed());
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
