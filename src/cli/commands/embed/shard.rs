//! Shards: parts of a large table that are written independently, in parallel or one after the
//! other, and merged at the end.

use super::lines::Lines;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use soda::error::{Error, Result};
use soda::eval::table::{Known, Table, read_parquet};
use soda::files;
use soda::progress::say;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The shards that a call writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// A single shard.
    One(Shard),
    /// All of this many shards, one after the other.
    All(usize),
    /// The shard that a scheduler assigns to this process.
    Auto,
}

/// One shard of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The number of the shard, from 0.
    pub index: usize,
    /// The number of shards.
    pub of: usize,
}

/// The largest number of shards.
const MOST: usize = 100_000;

/// The schedulers that assign shards, most likely first: name, and the environment variables of the
/// index, of the count and, if indices don't start from 0, of the first index.
const SCHEDULERS: [(&str, &str, &str, Option<&str>); 4] = [
    (
        "Slurm's array",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        Some("SLURM_ARRAY_TASK_MIN"),
    ),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", None),
    ("PMI", "PMI_RANK", "PMI_SIZE", None),
    ("Slurm's tasks", "SLURM_PROCID", "SLURM_NTASKS", None),
];

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "expected I/N (from 0), all/N or auto, such as 3/16".to_owned();
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let of = of.parse().ok().filter(|of| (1..=MOST).contains(of)).ok_or_else(wrong)?;
        if index == "all" {
            return Ok(Self::All(of));
        }
        let index = index.parse().ok().filter(|index| *index < of).ok_or_else(wrong)?;
        Ok(Self::One(Shard { index, of }))
    }
}

impl Shards {
    /// Returns the shards; `variable` reads the environment. A shard assigned by a scheduler is
    /// reported.
    ///
    /// # Errors
    /// If `auto` is given and no scheduler assigns a shard.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Shard>> {
        match self {
            Self::One(shard) => Ok(vec![shard]),
            Self::All(of) => Ok((0..of).map(|index| Shard { index, of }).collect()),
            Self::Auto => {
                let number = |name: &str| variable(name)?.parse::<usize>().ok();
                let array = SCHEDULERS[0].1;
                if variable(array).is_some() {
                    let [first, last, of] = ["MIN", "MAX", "COUNT"]
                        .map(|part| number(&format!("SLURM_ARRAY_TASK_{part}")));
                    // If only a part of an array was submitted, the share of its tasks in the whole
                    // is unknown.
                    let whole = first.zip(last).zip(of).is_some_and(|((first, last), of)| {
                        of > 1 && last.checked_sub(first) == Some(of - 1)
                    });
                    if !whole {
                        return Err(Error::usage(format!(
                            "--shard auto: {array} is set, but the array isn't a range of several \
                             indices without gaps (such as --array=0-15); name the shard with \
                             --shard I/N"
                        )));
                    }
                }
                let found = SCHEDULERS.iter().find_map(|(who, index, of, first)| {
                    let first = first.map_or(Some(0), |first| number(first).or(Some(0)))?;
                    let shard =
                        Shard { index: number(index)?.checked_sub(first)?, of: number(of)? };
                    (shard.index < shard.of && shard.of <= MOST).then_some((who, index, shard))
                });
                let Some((who, name, shard)) = found else {
                    let names: Vec<&str> = SCHEDULERS.iter().map(|(_, index, ..)| *index).collect();
                    return Err(Error::usage(format!(
                        "--shard auto: no scheduler assigns a shard (none of {}, with its count, \
                         is set to a valid value); name the shard, such as --shard 0/4",
                        names.join(", ")
                    )));
                };
                say(&format!("shard {} of {}, assigned by {who} ({name})", shard.index, shard.of));
                Ok(vec![shard])
            }
        }
    }
}

impl Shard {
    /// Returns the path of this shard of `out`: `z.3-of-16.parquet` for `z.parquet`.
    pub fn path(self, out: &Path) -> PathBuf {
        let mut name = OsString::from(out.file_stem().unwrap_or_default());
        name.push(format!(".{}-of-{}.parquet", self.index, self.of));
        out.with_file_name(name)
    }

    /// Returns the range of this shard among `count` images.
    pub fn range(self, count: usize) -> std::ops::Range<usize> {
        let at = |index: usize| (index as u128 * count as u128 / self.of as u128) as usize;
        at(self.index)..at(self.index + 1)
    }
}

/// The JSON next to a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the shard, from 0.
    pub shard: usize,
    /// The number of shards.
    pub of: usize,
    /// The number of rows of its table.
    pub rows: usize,
    /// The length of a row.
    pub dim: usize,
    /// The SHA-256 of its table.
    pub table_sha256: String,
    /// The SHA-256 of the weights.
    pub weights_sha256: String,
    /// The other settings that must be equal for all shards: features, precision, source of the
    /// images.
    pub settings: BTreeMap<String, Value>,
    /// The count and digest of the names of all files that the shards divide; `None` for a --split.
    pub listed: Option<String>,
    /// "train" or "test"; `None` for files.
    pub split: Option<String>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

impl Manifest {
    /// Returns the path of the JSON next to the table `path`.
    fn path(path: &Path) -> PathBuf {
        path.with_extension("json")
    }

    /// Removes the JSON of the table `path`, before the table is written again.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove(path: &Path) -> Result<()> {
        let at = Self::path(path);
        match std::fs::remove_file(&at) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &at, &e)),
            _ => Ok(()),
        }
    }

    /// Writes the JSON next to the table `path`, which must be complete.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed(format!("cannot encode a shard's JSON: {e}")))?;
        files::write_atomically(&Self::path(path), &json)
    }

    /// Reads the JSON of the table `path`; `None` if there is none.
    fn read(path: &Path) -> Result<Option<Self>> {
        let at = Self::path(path);
        let Ok(bytes) = std::fs::read(&at) else { return Ok(None) };
        let damaged = |e| {
            Error::failed(format!(
                "{} is not a shard's JSON ({e}); remove it and make that shard again",
                at.display()
            ))
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Names a property that differs between two shards of the same table, other than the shard's
    /// number and contents.
    fn differs(&self, other: &Self) -> Option<String> {
        let list = |one: &Self| {
            let mut all = one.settings.clone();
            all.insert("weights".into(), one.weights_sha256.clone().into());
            all.insert("shards".into(), one.of.into());
            all.insert("row length".into(), one.dim.into());
            all.insert("split".into(), serde_json::json!(one.split));
            all.insert("classes".into(), serde_json::json!(one.classes));
            all
        };
        let (one, other) = (list(self), list(other));
        let names = one.keys().chain(other.keys());
        names.into_iter().find(|name| one.get(*name) != other.get(*name)).cloned()
    }
}

/// Returns the number of rows of the shard at `path` if it exists, is intact and matches `wanted`;
/// `None` if it has yet to be made.
///
/// # Errors
/// If the existing shard was made differently, or its JSON is damaged.
pub fn finished(path: &Path, wanted: &Manifest) -> Result<Option<usize>> {
    let Some(found) = Manifest::read(path)?.filter(|_| path.exists()) else { return Ok(None) };
    if found.shard != wanted.shard || files::sha256_of(path)? != found.table_sha256 {
        say(&format!("{} has changed since it was written: making it again", path.display()));
        return Ok(None);
    }
    if let Some(what) = found.differs(wanted) {
        return Err(Error::usage(format!(
            "{} is a shard made with different {what}; name another --out, or remove it",
            path.display()
        )));
    }
    Ok(Some(found.rows))
}

/// Merges the shards of `out` into it, in their order, and returns the number of rows and of
/// shards.
///
/// # Errors
/// If a shard is missing, damaged or made differently from the others, or `out` can't be written.
pub fn merge(out: &Path) -> Result<(usize, usize)> {
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
    let column = if first.1.settings.get("features").is_some_and(|kind| kind == "z") {
        "z"
    } else {
        "features"
    };
    let mut table =
        Table::create(out, column, first.1.dim, known, labelled.then_some(&labels[..]), metadata)?;
    let mut lines = if Table::holds_names(out)? {
        None
    } else {
        Some(Lines::create(&out.with_extension("txt"))?)
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_parsed_counted_and_found_in_the_environment() {
        let one = |index, of| Shards::One(Shard { index, of });
        assert_eq!(
            ("3/16".parse(), "all/4".parse(), "auto".parse()),
            (Ok(one(3, 16)), Ok(Shards::All(4)), Ok(Shards::Auto))
        );
        for wrong in ["16/16", "-1/4", "1/0", "1", "all", "all/0", "a/4", "1/4/4", "1/1000000"] {
            assert!(wrong.parse::<Shards>().is_err(), "{wrong}");
        }
        assert_eq!(Shards::All(3).resolve(|_| None).unwrap().len(), 3);
        let auto = |pairs: &[(&str, &str)]| {
            Shards::Auto.resolve(|name| {
                pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let array = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_ARRAY_TASK_MIN", "5"),
            ("SLURM_ARRAY_TASK_MAX", "8"),
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
        ];
        assert_eq!(auto(&array).unwrap(), [Shard { index: 2, of: 4 }]);
        assert_eq!(
            auto(&[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")]).unwrap(),
            [Shard { index: 1, of: 2 }]
        );
        assert_eq!(
            auto(&[("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8")]).unwrap(),
            [Shard { index: 3, of: 8 }]
        );
        // A single task of an array submitted again, or an array with gaps: no other scheduler is
        // used instead.
        for [id, min, max, count] in [["3", "3", "3", "1"], ["10", "0", "30", "4"]] {
            let pairs = [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_PROCID", "0"),
                ("SLURM_NTASKS", "1"),
            ];
            assert!(auto(&pairs).unwrap_err().to_string().contains("without gaps"));
        }
        for nothing in [&[][..], &[("PMI_RANK", "1")], &[("PMI_RANK", "2"), ("PMI_SIZE", "2")]] {
            assert!(auto(nothing).unwrap_err().to_string().contains("no scheduler"));
        }
    }

    #[test]
    fn every_image_belongs_to_one_shard() {
        for (count, of) in [(10, 3), (2, 5), (0, 4), (1_000_000, 7)] {
            let ranges: Vec<_> = (0..of).map(|index| Shard { index, of }.range(count)).collect();
            assert_eq!((ranges[0].start, ranges[of - 1].end), (0, count));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(ranges.iter().all(|range| range.len().abs_diff(count / of) <= 1));
        }
        assert_eq!(
            Shard { index: 3, of: 16 }.path(Path::new("a/z.parquet")),
            Path::new("a/z.3-of-16.parquet")
        );
    }
}
