//! Reads the pages of untrusted Parquet files. The library never allocates memory based on an
//! unchecked number in a file.

mod thrift;

use ::parquet::basic::{Encoding, Type};
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::Result;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use ::parquet::file::serialized_reader::SerializedPageReader;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use thrift::{Thrift, refused};

/// The longest footer that is read, in bytes. Footers of 1,000 row groups with a dozen columns have
/// 2 MB.
const LONGEST_FOOTER: u64 = 16 << 20;

/// A Parquet file.
pub(crate) struct Source {
    file: Arc<File>,
    length: u64,
}

impl Source {
    /// Opens the plain file `file` and reads its footer.
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
            return Err(refused("it states an impossible footer length"));
        }
        Thrift::check_footer(&file, length - 8 - footer, length)?;
        let described = ParquetMetaDataReader::new().parse_and_finish(&file)?;
        Ok((Self { file: Arc::new(file), length }, described))
    }

    /// Returns the length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the pages of a column in a row group of `rows` rows.
    pub fn pages(&self, chunk: &ColumnChunkMetaData, rows: usize) -> Result<Box<dyn PageReader>> {
        let starts = [Some(chunk.data_page_offset()), chunk.dictionary_page_offset()];
        let within = |offset: i64| u64::try_from(offset).is_ok_and(|offset| offset <= self.length);
        if !starts.into_iter().flatten().chain([chunk.compressed_size()]).all(within) {
            return Err(refused("a column lies outside the file"));
        }
        let (start, length) = chunk.byte_range();
        if start + length > self.length {
            return Err(refused("a column extends past its end"));
        }
        Thrift::check_pages(&self.file, start, length)?;
        let pages = SerializedPageReader::new(Arc::clone(&self.file), chunk, rows, None)?;
        Ok(Box::new(Pages { pages, kind: chunk.column_type() }))
    }
}

/// Checks pages before they are decoded.
struct Pages {
    pages: SerializedPageReader<File>,
    kind: Type,
}

impl Pages {
    fn check(&self, page: &Page) -> Result<()> {
        let smallest = if self.kind == Type::INT64 { 8 } else { 4 };
        match page {
            Page::DictionaryPage { num_values, buf, .. }
                if *num_values as usize > buf.len() / smallest =>
            {
                Err(refused(format!(
                    "a dictionary of {} bytes states that it has {num_values} values",
                    buf.len()
                )))
            }
            _ if [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY]
                .contains(&page.encoding()) =>
            {
                let encoding = page.encoding();
                Err(refused(format!(
                    "a column is encoded as {encoding}, which is not read; write it with \
                     PyArrow's defaults"
                )))
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
