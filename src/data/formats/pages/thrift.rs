//! Checks the sizes that the descriptions in a Parquet file state, which are in Thrift's compact
//! protocol.

use ::parquet::errors::{ParquetError, Result};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The base allowance for an unpacked page, in bytes.
const ROOM: u64 = 64 << 20;

/// The additional allowance per byte of the packed page.
const GROWTH: u64 = 32;

/// The maximum number of nested groups around a column.
const GROUPS: usize = 64;

/// The maximum total bytes of the names of all columns. Each counts with the names of its groups
/// and a few bytes per name.
const NAMES: u64 = 16 << 20;

pub(super) fn refused(why: impl Into<String>) -> ParquetError {
    ParquetError::General(why.into())
}

/// A reader of Thrift's compact protocol that only checks sizes.
pub(super) struct Thrift {
    reader: BufReader<File>,
    at: u64,
    end: u64,
    /// What is being read, as the start of a sentence.
    what: &'static str,
    /// The maximum depth of its structures.
    deepest: usize,
    /// Whether it may have lists.
    lists: bool,
}

impl Thrift {
    /// Checks the footer of a file, which lies between `start` and `end`.
    pub(super) fn check_footer(file: &File, start: u64, end: u64) -> Result<()> {
        let mut reader = BufReader::with_capacity(1 << 14, file.try_clone()?);
        reader.seek(SeekFrom::Start(start))?;
        Self { reader, at: start, end, what: "its footer has", deepest: 16, lists: true }
            .fields(0, &mut [0; 6])
    }

    /// Checks the headers of the pages from `start`, which take `length` bytes.
    pub(super) fn check_pages(file: &File, start: u64, length: u64) -> Result<()> {
        let mut reader = BufReader::with_capacity(512, file.try_clone()?);
        reader.seek(SeekFrom::Start(start))?;
        let end = start + length;
        let mut headers = Self {
            reader,
            at: start,
            end,
            what: "the header of a page has",
            deepest: 4,
            lists: false,
        };
        while headers.at < end {
            // Indexed by field number: kind, unpacked size, packed size.
            let mut numbers = [0; 6];
            headers.fields(0, &mut numbers)?;
            let [_, _, unpacked, packed, ..] = numbers;
            if headers.at.checked_add(packed).is_none_or(|next| next > end) {
                return Err(ParquetError::EOF("a page extends past the end of its column".into()));
            }
            if unpacked > ROOM + GROWTH * packed {
                return Err(refused(format!(
                    "a page of {packed} bytes states that it unpacks to {unpacked}"
                )));
            }
            headers.skip(packed)?;
        }
        Ok(())
    }

    fn unknown(&self) -> ParquetError {
        refused(format!("{} an unknown form", self.what))
    }

    /// Reads the fields of a structure. For small field numbers, stores the values or lengths in
    /// `kept`.
    fn fields(&mut self, depth: usize, kept: &mut [u64; 6]) -> Result<()> {
        let mut id = 0;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            id = match u64::from(byte >> 4) {
                0 => match self.number()? {
                    signed if signed & 1 == 0 => signed >> 1,
                    _ => return Err(self.unknown()),
                },
                more => id + more,
            };
            // The library would truncate any larger number to one of these.
            if id > i16::MAX as u64 {
                return Err(self.unknown());
            }
            // The columns are the second field of the footer.
            let value = match (depth, id, byte & 15) {
                (0, 2, 9) if self.lists => self.columns().map(|()| None)?,
                (0, 2, _) if self.lists => return Err(self.unknown()),
                (_, _, kind) => self.value(kind, depth)?,
            };
            if let (Some(kept), Some(value)) = (kept.get_mut(id as usize), value) {
                *kept = value;
            }
        }
    }

    /// Reads a value of the given kind. Returns it if it is a number, or the length if it is a
    /// text.
    fn value(&mut self, kind: u8, depth: usize) -> Result<Option<u64>> {
        match kind {
            // The value of a flag is part of its kind.
            1 | 2 => {}
            3 => self.skip(1)?,
            4..=6 => return Ok(Some(self.number()? >> 1)),
            7 => self.skip(8)?,
            8 => {
                let length = self.number()?;
                self.skip(length)?;
                return Ok(Some(length));
            }
            9 | 10 if self.lists && depth < self.deepest => self.list(depth + 1)?,
            12 if depth < self.deepest => self.fields(depth + 1, &mut [0; 6])?,
            _ => return Err(self.unknown()),
        }
        Ok(None)
    }

    /// Reads the kind and the number of the items of a list.
    fn list_start(&mut self) -> Result<(u8, u64)> {
        let byte = self.byte()?;
        let count = u64::from(byte >> 4);
        Ok((byte & 15, if count == 15 { self.number()? } else { count }))
    }

    fn list(&mut self, depth: usize) -> Result<()> {
        let (kind, count) = self.list_start()?;
        // Flags take no bytes, so any number of them could be stated, and the library would iterate
        // over all of them.
        if count > 0 && matches!(kind, 1 | 2) {
            return Err(refused(format!("{} a list of flags", self.what)));
        }
        (0..count).try_for_each(|_| self.value(kind, depth).map(drop))
    }

    /// Reads the list of columns: groups, each with the number of its children, which follow it,
    /// and leaf columns. The library allocates memory for as many children as are stated, recurses
    /// for each nested group, and gives each column the names of all its groups.
    fn columns(&mut self) -> Result<()> {
        let (kind, count) = self.list_start()?;
        let (mut children_left, mut names) = (count.saturating_sub(1), 0);
        // For each open group: the number of children still to come, and the bytes of the names
        // down to it.
        let mut groups: Vec<(u64, u64)> = Vec::new();
        for _ in 0..count {
            if kind != 12 {
                return Err(self.unknown());
            }
            let mut kept = [0; 6];
            self.fields(2, &mut kept)?;
            let [.., name, children] = kept;
            while groups.pop_if(|(left, _)| *left == 0).is_some() {}
            let of_group = groups.last_mut().map_or(0, |(left, path)| {
                *left -= 1;
                *path
            });
            let path = of_group + name + size_of::<String>() as u64;
            names += path;
            children_left = children_left
                .checked_sub(children)
                .ok_or_else(|| refused("its footer states more columns than it has"))?;
            if children > 0 {
                groups.push((children, path));
            }
            if groups.len() > GROUPS || names > NAMES {
                return Err(refused(
                    "its columns are nested in too many groups, or their names are too long",
                ));
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.at += 1;
        Ok(byte[0])
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for i in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * i).min(63);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(refused(format!("{} an unterminated number", self.what)))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let next = self.at.checked_add(count).filter(|next| *next <= self.end);
        let (count, next) = i64::try_from(count)
            .ok()
            .zip(next)
            .ok_or_else(|| refused(format!("{} an impossible length", self.what)))?;
        self.reader.seek_relative(count)?;
        self.at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
