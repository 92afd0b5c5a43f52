//! Shards: parts of a long work that are done by themselves, by several processes or one after the
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

/// Which shards a call makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One.
    One(Shard),
    /// All of so many, one after the other.
    All(usize),
    /// The one that a scheduler has given this process.
    Auto,
}

/// One shard of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

/// More shards than anybody needs.
const MOST: usize = 100_000;

/// What tells a process which it is, and of how many: variables of the index and of the count, the
/// likeliest first; the number of the first.
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
    /// The shards themselves; `variable` reads the environment. One of a scheduler is said.
    ///
    /// # Errors
    /// `auto` where no scheduler says which.
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
                    // What the tasks of a part of an array are of the whole isn't known.
                    let whole = first.zip(last).zip(of).is_some_and(|((first, last), of)| {
                        of > 1 && last.checked_sub(first) == Some(of - 1)
                    });
                    if !whole {
                        return Err(Error::usage(format!(
                            "--shard auto: {array} is set, but the array isn't one of several numbers without gaps (--array=0-15); name the shard: --shard I/N"
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
                        "--shard auto: no scheduler says which shard this is (none of {} is set as it should be); name it: --shard 0/4",
                        names.join(", ")
                    )));
                };
                say(&format!("shard {} of {}, by {who} ({name})", shard.index, shard.of));
                Ok(vec![shard])
            }
        }
    }
}

impl Shard {
    /// Where the shard of `out` lies: `z.3-of-16.parquet` of `z.parquet`.
    pub fn path(self, out: &Path) -> PathBuf {
        let mut name = OsString::from(out.file_stem().unwrap_or_default());
        name.push(format!(".{}-of-{}.parquet", self.index, self.of));
        out.with_file_name(name)
    }

    /// The images of `count` that are its own.
    pub fn range(self, count: usize) -> std::ops::Range<usize> {
        let at = |index: usize| (index as u128 * count as u128 / self.of as u128) as usize;
        at(self.index)..at(self.index + 1)
    }
}

/// What stands in the JSON beside a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of the shard, from 0.
    pub shard: usize,
    /// How many shards there are.
    pub of: usize,
    /// Rows of its table.
    pub rows: usize,
    /// Length of a row.
    pub dim: usize,
    /// SHA-256 of its table.
    pub table_sha256: String,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// What else must be the same for all: features, precision, where the images come from.
    pub settings: BTreeMap<String, Value>,
    /// Number and digest of the names of all images that the shards share; none for a set.
    pub listed: Option<String>,
    /// "train" or "test"; none for files.
    pub split: Option<String>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

impl Manifest {
    /// Where it lies, beside the table `path`.
    fn path(path: &Path) -> PathBuf {
        path.with_extension("json")
    }

    /// Removes that of the table `path`, which is to be made again.
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

    /// Writes it beside the table `path`, which is complete.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed(format!("cannot encode a shard's JSON: {e}")))?;
        files::write_atomically(&Self::path(path), &json)
    }

    /// That of the table `path`; none where there is none.
    fn read(path: &Path) -> Result<Option<Self>> {
        let at = Self::path(path);
        let Ok(bytes) = std::fs::read(&at) else { return Ok(None) };
        let damaged = |e| {
            Error::failed(format!(
                "{} is no shard's JSON ({e}); remove it and make that shard again",
                at.display()
            ))
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// What both must have alike, but for which shard they are.
    fn differs(&self, other: &Self) -> Option<String> {
        let list = |one: &Self| {
            let mut all = one.settings.clone();
            all.insert("weights".into(), one.weights_sha256.clone().into());
            all.insert("shards".into(), one.of.into());
            all.insert("numbers of a row".into(), one.dim.into());
            all.insert("split".into(), serde_json::json!(one.split));
            all.insert("classes".into(), serde_json::json!(one.classes));
            all
        };
        let (one, other) = (list(self), list(other));
        let names = one.keys().chain(other.keys());
        names.into_iter().find(|name| one.get(*name) != other.get(*name)).cloned()
    }
}

/// The rows of the shard at `path`, where it is there, whole and made as `wanted`; none where it is
/// still to be made.
///
/// # Errors
/// If one is there that was made otherwise, or its JSON is damaged.
pub fn finished(path: &Path, wanted: &Manifest) -> Result<Option<usize>> {
    let Some(found) = Manifest::read(path)?.filter(|_| path.exists()) else { return Ok(None) };
    if found.shard != wanted.shard || files::sha256_of(path)? != found.table_sha256 {
        say(&format!("{} has changed since it was written: making it again", path.display()));
        return Ok(None);
    }
    if let Some(what) = found.differs(wanted) {
        return Err(Error::usage(format!(
            "{} is a shard made with other {what}; name another --out, or remove it",
            path.display()
        )));
    }
    Ok(Some(found.rows))
}

/// Merges the shards of `out` into it; returns rows and shards. Rows are in the order of the
/// shards.
///
/// # Errors
/// If a shard is missing, damaged or made otherwise than the others; a full disk.
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
            "there are shards of {of} ({}) and of {} ({}); remove those that aren't meant",
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
                "{} says that it is shard {}; make it again",
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
                "{} and {} were made from other files: some were added or removed in between; make all shards again",
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
                    "{} holds rows of other than {} numbers",
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

/// The shards of `out` that have a JSON beside them, whatever they hold.
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
    fn shards_are_named_counted_and_found_in_the_environment() {
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
        // One task of an array, again; an array with gaps: never another scheduler's instead.
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
