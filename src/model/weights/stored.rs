//! Named tensors and metadata as safetensors files.

use crate::data::pack::FORMAT;
use crate::error::{Error, Result};
use crate::files;
use crate::model::parameters::Named;
use burn::tensor::f16;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Named f32 tensors and their shapes.
pub type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// The prefix of the linear decoder's tensors, which aren't part of the networks.
pub const MORE: &str = "linear.";

/// The prefix of the tensors that whiten z, which aren't part of the networks either.
pub const WHITENING: &str = "whitening.";

/// Reads the values of `named` back to the host.
///
/// # Errors
/// If the device can't be read.
pub fn to_host(named: Vec<Named>) -> Result<Tensors> {
    named
        .into_iter()
        .map(|t| {
            let values = t.values.try_to_vec_as::<f32>();
            let values = values.map_err(|e| Error::device(&format!("reading {}", t.name), &e))?;
            Ok((t.name, t.shape, values))
        })
        .collect()
}

/// Writes `tensors` and `metadata` to `path`, atomically. The same content gives the same bytes.
///
/// # Errors
/// If the file can't be written.
pub fn write(path: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<()> {
    files::write_atomically(path, &encode(tensors, metadata)?)
}

/// Encodes `tensors` and `metadata` as a safetensors file. The same content gives the same bytes.
///
/// # Errors
/// If they can't be encoded.
pub fn encode(tensors: &Tensors, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let tensors = tensors
        .iter()
        .map(|(name, shape, values)| (name.as_str(), shape.as_slice(), values.as_slice()));
    encode_stored(tensors, metadata, false)
}

/// Encodes like [`encode`]; `half` stores matrices and convolutions as f16, except those with a
/// value too large for it. Vectors (norms, their statistics, biases) stay f32, because they take
/// hardly any space. The linear decoder is always stored in f16 and the whitening never, because
/// it amplifies small differences of z.
pub(super) fn encode_stored<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>,
    metadata: HashMap<String, String>,
    half: bool,
) -> Result<Vec<u8>> {
    let stored: Vec<_> = tensors
        .map(|(name, shape, values)| {
            let half = (half || name.starts_with(MORE)) && !name.starts_with(WHITENING);
            let small =
                half && shape.len() > 1 && values.iter().all(|v| v.abs() <= f16::MAX.to_f32());
            let (dtype, bytes) = match small {
                true => (
                    Dtype::F16,
                    Cow::Owned(
                        values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
                    ),
                ),
                false => (Dtype::F32, Cow::Borrowed(bytemuck::cast_slice(values))),
            };
            (name, dtype, shape, bytes)
        })
        .collect();
    let views = stored.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), bytes)
                .expect("as many values as the shape says"),
        )
    });
    let failed =
        |e: &dyn std::fmt::Display| Error::failed(format!("cannot encode the weights: {e}"));
    let mut bytes = safetensors::serialize(views, None).map_err(|e| failed(&e))?;
    // The library writes metadata in arbitrary order; sorting gives the same checksum every time.
    let metadata: BTreeMap<_, _> = metadata.into_iter().collect();
    let metadata = serde_json::to_string(&metadata).map_err(|e| failed(&e))?;
    let (length, rest) = bytes.split_first_chunk::<8>().expect("the length of the header");
    let end = u64::from_le_bytes(*length) as usize;
    let tensors = rest[..end].trim_ascii_end().strip_prefix(b"{").expect("an object");
    let comma: &[u8] = if tensors == b"}" { b"" } else { b"," };
    let mut header = [b"{\"__metadata__\":", metadata.as_bytes(), comma, tensors].concat();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    bytes.splice(..8 + end, length.into_iter().chain(header));
    Ok(bytes)
}

/// Reads the tensors and metadata of a safetensors file; f16 becomes f32.
///
/// # Errors
/// If the file is missing, truncated, or holds anything but f32 and f16.
pub fn read(path: &Path) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = files::read(path).map_err(|e| Error::io("read", path, &e))?;
    parse(path, &bytes)
}

/// Reads like [`read`], but from the bytes of a file; error messages call it `path`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(Tensors, HashMap<String, String>)> {
    // After the length of its header comes the header, a JSON object.
    if bytes.get(8).is_some_and(|byte| *byte != b'{') {
        return Err(Error::failed(format!(
            "{} is not a weights file (safetensors); name a file that training wrote",
            path.display()
        )));
    }
    let bad = |e: &dyn std::fmt::Display| {
        Error::failed(format!(
            "{} is not a usable safetensors file ({e}); copy or train the weights again",
            path.display()
        ))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(&e))?;
    if header.metadata().as_ref().and_then(|data| data.get("format")).is_some_and(|f| f == FORMAT) {
        return Err(Error::usage(format!(
            "{} holds images, not weights: it is a packed data set",
            path.display()
        )));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| bad(&e))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let values = match view.dtype() {
            Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
            Dtype::F16 => view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
                .collect(),
            other => return Err(bad(&format!("{name} is {other:?}, expected F32 or F16"))),
        };
        tensors.push((name, view.shape().to_vec(), values));
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// Checks, without reading the values, that the file at `path` is as long as its header says.
///
/// # Errors
/// If it can't be read.
pub fn is_whole(path: &Path) -> Result<bool> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length < 8 {
        return Ok(false);
    }
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes).map_err(failed)?;
    let header = u64::from_le_bytes(bytes);
    if header > length - 8 {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    file.take(header).read_to_end(&mut bytes).map_err(failed)?;
    let described = serde_json::from_slice::<Metadata>(&bytes);
    Ok(described.is_ok_and(|described| 8 + header + described.data_len() as u64 == length))
}
