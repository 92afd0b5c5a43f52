//! What torch.save wrote before PyTorch 1.6 (and still writes with
//! `_use_new_zipfile_serialization=False`): a sequence of pickles (a magic number, a version, the
//! sizes of C types, the object, the keys of its storages), then each storage: the number of its
//! values, and the values.

use super::archive::Result;
use super::pickle::Pickle;
use super::{LONGEST_PICKLE, head, too_long, unread};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The first pickle: 0x1950a86a20f9469cfc6c.
pub const MAGIC: [u8; 15] =
    [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// The version of this format.
const VERSION: i64 = 1001;

/// Reads the dictionaries of `file`, which is `length` bytes long, and the positions at which the
/// values of each storage begin.
pub fn open(file: &mut File, length: u64) -> Result<(Pickle, HashMap<String, u64>)> {
    let bytes = head(file, LONGEST_PICKLE)?;
    let mut at = MAGIC.len();
    let mut next = || -> Result<Pickle> {
        let cut = |e: String| {
            if length > LONGEST_PICKLE && e.contains(crate::pickle::CUT) { too_long() } else { e }
        };
        let (pickle, size) = Pickle::parse_first(&bytes[at..]).map_err(cut)?;
        at += size;
        Ok(pickle)
    };
    if !next()?.is_number(VERSION) {
        return Err("was written by an unknown version of torch.save; load it and save it again \
                    with a newer PyTorch"
            .into());
    }
    // The sizes of C types aren't needed: the names of storages give theirs.
    next()?;
    let (pickle, keys) = (next()?, next()?);
    let keys = keys.texts().ok_or("lacks the list of its storages; copy it again")?;
    let sizes: HashMap<&str, u64> =
        pickle.storages().map(|storage| (&*storage.key, storage.dtype.size())).collect();
    let mut start = at as u64;
    let mut places = HashMap::new();
    for key in keys {
        let size = *sizes.get(key).ok_or("lists a storage that no tensor uses")?;
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(start)).map_err(unread)?;
        file.read_exact(&mut count).map_err(|_| CUT)?;
        start += 8;
        places.insert(key.to_owned(), start);
        let end =
            u64::from_le_bytes(count).checked_mul(size).and_then(|bytes| start.checked_add(bytes));
        start = end.filter(|end| *end <= length).ok_or(CUT)?;
    }
    Ok((pickle, places))
}

const CUT: &str = "is truncated or damaged (parts of it lie beyond its end); copy it again";
