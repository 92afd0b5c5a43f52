//! Pages of Parquet files that come from anywhere: none makes the library ask for memory by a number that it states.

use ::parquet::basic::{Encoding, Type};
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use ::parquet::file::serialized_reader::SerializedPageReader;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Longest description of a file; those of 1,000 row groups with a dozen columns have 2 MB.
const LONGEST_FOOTER: u64 = 16 << 20;
/// A page may unpack to so many bytes,
const ROOM: u64 = 64 << 20;
/// and so many more for each byte that it has.
const GROWTH: u64 = 32;

/// A Parquet file.
pub(super) struct Source {
    file: Arc<File>,
    length: u64,
}

fn refused(why: impl Into<String>) -> ParquetError {
    ParquetError::General(why.into())
}

impl Source {
    /// Opens the plain file `file`, and reads its description.
    pub fn open(mut file: File) -> Result<(Self, ParquetMetaData)> {
        let length = file.metadata()?.len();
        let mut tail = [0; 8];
        if length < 12 {
            return Err(refused("it is too short"));
        }
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut tail)?;
        let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        match &tail[4..] {
            b"PAR1" => {}
            b"PARE" => return Err(refused("it is encrypted")),
            _ => return Err(refused("it does not end as a Parquet file does")),
        }
        if footer > LONGEST_FOOTER || footer + 12 > length {
            return Err(refused("it states an impossible length of its description"));
        }
        let described = ParquetMetaDataReader::new().parse_and_finish(&file)?;
        Ok((Self { file: Arc::new(file), length }, described))
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The pages of a column in a row group of `rows` rows.
    pub fn pages(&self, chunk: &ColumnChunkMetaData, rows: usize) -> Result<Box<dyn PageReader>> {
        let starts = [Some(chunk.data_page_offset()), chunk.dictionary_page_offset()];
        let within = |offset: i64| u64::try_from(offset).is_ok_and(|offset| offset <= self.length);
        if !starts.into_iter().flatten().chain([chunk.compressed_size()]).all(within) {
            return Err(refused("a column lies outside of it"));
        }
        let (start, length) = chunk.byte_range();
        if start + length > self.length {
            return Err(refused("a column goes on behind its end"));
        }
        Headers::check(&self.file, start, length)?;
        let pages = SerializedPageReader::new(Arc::clone(&self.file), chunk, rows, None)?;
        Ok(Box::new(Pages { pages, kind: chunk.column_type() }))
    }
}

/// Reads the headers of pages, in Thrift's compact protocol, as far as sizes go.
struct Headers {
    reader: BufReader<File>,
    at: u64,
}

impl Headers {
    /// Walks over the pages from `start`, which take `length` bytes.
    fn check(file: &File, start: u64, length: u64) -> Result<()> {
        let mut reader = BufReader::with_capacity(512, file.try_clone()?);
        reader.seek(SeekFrom::Start(start))?;
        let (mut headers, end) = (Self { reader, at: start }, start + length);
        while headers.at < end {
            // By the numbers of the fields: kind, unpacked and packed size.
            let mut numbers = [0; 4];
            headers.fields(0, &mut numbers)?;
            let [_, _, unpacked, packed] = numbers;
            if headers.at.checked_add(packed).is_none_or(|next| next > end) {
                return Err(ParquetError::EOF("a page goes on behind the end of its column".into()));
            }
            if unpacked > ROOM + GROWTH * packed {
                return Err(refused(format!("a page of {packed} bytes states that it unpacks to {unpacked}")));
            }
            headers.skip(packed)?;
        }
        Ok(())
    }

    /// The fields of a structure; those of the outermost one with small numbers are kept.
    fn fields(&mut self, depth: usize, numbers: &mut [u64; 4]) -> Result<()> {
        let mut id = 0;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            id = match u64::from(byte >> 4) {
                0 => self.number()? >> 1,
                more => id + more,
            };
            match byte & 15 {
                // Flags are in the kind.
                1 | 2 => {}
                3 => self.skip(1)?,
                4..=6 => {
                    let number = self.number()? >> 1;
                    if let (0, Some(kept)) = (depth, numbers.get_mut(id as usize)) {
                        *kept = number;
                    }
                }
                7 => self.skip(8)?,
                8 => {
                    let length = self.number()?;
                    self.skip(length)?;
                }
                12 if depth < 4 => self.fields(depth + 1, numbers)?,
                _ => return Err(refused("a page has a header of an unknown form")),
            }
        }
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
        Err(refused("a page has a number without end in its header"))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let next = i64::try_from(count).ok().zip(self.at.checked_add(count));
        let (count, next) = next.ok_or_else(|| refused("a page has an impossible length in its header"))?;
        self.reader.seek_relative(count)?;
        self.at = next;
        Ok(())
    }
}

/// Looks at pages before they are decoded.
struct Pages {
    pages: SerializedPageReader<File>,
    kind: Type,
}

impl Pages {
    fn check(&self, page: &Page) -> Result<()> {
        let smallest = if self.kind == Type::INT64 { 8 } else { 4 };
        match page {
            Page::DictionaryPage { num_values, buf, .. } if *num_values as usize > buf.len() / smallest => {
                Err(refused(format!("a dictionary of {} bytes states that it has {num_values} values", buf.len())))
            }
            _ if [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY].contains(&page.encoding()) => {
                let encoding = page.encoding();
                Err(refused(format!("a column is encoded as {encoding}, which is not read; write it with PyArrow's defaults")))
            }
            _ => Ok(()),
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file of pages of ten bytes that state these sizes.
    fn check(sizes: &[(u64, u64)]) -> Result<()> {
        let mut file = tempfile::tempfile().unwrap();
        for (unpacked, packed) in sizes {
            // Kind, sizes, a checksum, and a structure with a number, a flag, a text and another structure.
            let mut header = vec![0x15, 0];
            for size in [unpacked, packed] {
                header.push(0x15);
                let mut left = size << 1;
                while left > 127 {
                    header.push(left as u8 | 0x80);
                    left >>= 7;
                }
                header.push(left as u8);
            }
            header.extend([0x15, 8, 0x1c, 0x15, 2, 0x11, 0x18, 3, b'a', b'b', b'c', 0x1c, 0x06, 20, 2, 0, 0, 0]);
            file.write_all(&header).unwrap();
            file.write_all(&[7; 10]).unwrap();
        }
        let length = file.stream_position().unwrap();
        Headers::check(&file, 0, length)
    }

    #[test]
    fn a_page_that_states_more_than_it_can_hold_is_refused() {
        check(&[(10, 10), (5000, 10), (ROOM, 10)]).unwrap();
        let message = check(&[(10, 10), ((1 << 31) - 1, 10)]).unwrap_err().to_string();
        assert!(message.contains("a page of 10 bytes states that it unpacks to 2147483647"), "{message}");
        let message = check(&[(10, 11)]).unwrap_err().to_string();
        assert!(message.contains("goes on behind the end of its column"), "{message}");
        assert!(check(&[(10, u64::MAX >> 1)]).is_err());
    }

    #[test]
    fn nested_structures_have_an_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0x1c; 100_000]).unwrap();
        assert!(Headers::check(&file, 0, 100_000).is_err());
    }
}
