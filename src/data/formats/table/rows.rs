//! Reads rows of CSV and JSON as cells of text.

use csv_core::{ReadRecordResult, ReaderBuilder};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The error is what is wrong, as a sentence fragment.
type Result<T> = std::result::Result<T, String>;

/// The largest number of columns of a table.
const MOST_COLUMNS: usize = 1000;

/// A row: its non-empty cells with the numbers of their columns. With a thousand columns, it may
/// have only one.
pub type Row = Vec<(usize, String)>;

/// A table as text.
#[derive(Default)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    index: HashMap<String, usize>,
}

impl Rows {
    /// Reads a file called `name`: JSON if its first character says so, otherwise text with a
    /// header line.
    pub fn read(bytes: &[u8], name: &str) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let name = name.to_lowercase();
        let is_json = [".json", ".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending));
        match bytes.trim_ascii_start().first() {
            None => Err("it is empty".into()),
            Some(b'[') => Self::array(bytes),
            Some(b'{') => Self::lines(bytes),
            Some(_) if is_json => {
                Err("it is neither an array of objects nor one object per line".into())
            }
            Some(_) => Self::text(bytes, name.ends_with(".tsv")),
        }
    }

    /// Reads an array of objects.
    fn array(bytes: &[u8]) -> Result<Self> {
        let mut rows = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        Objects(&mut rows)
            .deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(|e| e.to_string())?;
        Ok(rows)
    }

    /// Reads one object per line.
    fn lines(bytes: &[u8]) -> Result<Self> {
        let mut rows = Self::default();
        for object in serde_json::Deserializer::from_slice(bytes).into_iter::<Map<String, Value>>()
        {
            rows.add(object.map_err(|e| e.to_string())?)?;
        }
        Ok(rows)
    }

    fn add(&mut self, object: Map<String, Value>) -> Result<()> {
        let mut row = Row::new();
        for (key, value) in object {
            let cell = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                Value::Null => String::new(),
                // Columns that aren't needed may hold anything.
                Value::Array(_) | Value::Object(_) => continue,
            };
            let at = match self.index.get(&key) {
                Some(at) => *at,
                None if self.columns.len() == MOST_COLUMNS => {
                    return Err(format!("it has more than {MOST_COLUMNS} columns"));
                }
                None => {
                    self.index.insert(key.clone(), self.columns.len());
                    self.columns.push(key);
                    self.columns.len() - 1
                }
            };
            if !cell.is_empty() {
                row.push((at, cell));
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// Reads text with a header line. The delimiter is the tab (`tabs`), or the one that occurs
    /// most often in the header.
    fn text(bytes: &[u8], tabs: bool) -> Result<Self> {
        let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
        let delimiter = if tabs {
            b'\t'
        } else {
            [b'\t', b';', b','].into_iter().max_by_key(|d| count(*d)).unwrap_or(b',')
        };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
        let (mut rows, mut rest) = (Self::default(), bytes);
        let (mut output, mut ends) = (vec![0; 1 << 12], vec![0; 16]);
        loop {
            let (mut written, mut fields) = (0, 0);
            loop {
                let (result, read, wrote, ended) =
                    reader.read_record(rest, &mut output[written..], &mut ends[fields..]);
                (rest, written, fields) = (&rest[read..], written + wrote, fields + ended);
                match result {
                    // At the end of the input, the next call ends the last record.
                    ReadRecordResult::InputEmpty => {}
                    ReadRecordResult::OutputFull => output.resize(2 * output.len(), 0),
                    ReadRecordResult::OutputEndsFull if ends.len() >= MOST_COLUMNS => {
                        return Err(format!("it has more than {MOST_COLUMNS} columns"));
                    }
                    ReadRecordResult::OutputEndsFull => ends.resize(2 * ends.len(), 0),
                    ReadRecordResult::Record => break,
                    ReadRecordResult::End => return rows.finished(),
                }
            }
            rows.cells(&output[..written], &ends[..fields], reader.line())?;
        }
    }

    /// Adds a row whose cells end at `ends`; the first row is the header.
    fn cells(&mut self, text: &[u8], ends: &[usize], line: u64) -> Result<()> {
        let cell = |i: usize| {
            let cell = &text[if i == 0 { 0 } else { ends[i - 1] }..ends[i]];
            let text = std::str::from_utf8(cell)
                .map_err(|_| format!("it is not UTF-8 before line {line}; save it as UTF-8"))?;
            Ok(text.trim().to_owned())
        };
        let cells = (0..ends.len()).map(cell).collect::<Result<Vec<String>>>()?;
        if self.columns.is_empty() {
            self.columns = cells;
            return Ok(());
        }
        if cells.len() > self.columns.len()
            && cells[self.columns.len()..].iter().any(|cell| !cell.is_empty())
        {
            return Err(format!(
                "the row before line {line} has {} cells for {} columns",
                cells.len(),
                self.columns.len()
            ));
        }
        self.rows
            .push(cells.into_iter().enumerate().filter(|(_, cell)| !cell.is_empty()).collect());
        Ok(())
    }

    fn finished(self) -> Result<Self> {
        if self.columns.is_empty() { Err("it is empty".into()) } else { Ok(self) }
    }
}

/// Adds the objects of an array as they are parsed, so that they are never all in memory.
struct Objects<'a>(&'a mut Rows);

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(object) = seq.next_element::<Map<String, Value>>()? {
            self.0.add(object).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}
