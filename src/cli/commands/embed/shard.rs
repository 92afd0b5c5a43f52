//! Shards: parts of a large table that are written independently, in parallel or one after the
//! other, and merged at the end.

use soda::error::{Error, Result};
use soda::progress::say;
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
