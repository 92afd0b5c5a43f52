use super::archive::Archive;
use super::pickle::Pickle;
use super::*;
use std::io::Write;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Opens a file of `bytes` as a checkpoint.
fn open(bytes: &[u8]) -> Result<Checkpoint> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    Checkpoint::open(file.path())
}

fn refused(pickle: &[u8], part: &str) {
    let message = Pickle::parse(pickle).expect_err("refused");
    assert!(message.contains(part), "{part:?} is not in {message:?}");
}

#[test]
fn dictionaries_and_tensors_are_read() {
    let mut checkpoint = Checkpoint::open(&golden("futurexiang.pth")).expect("a checkpoint");
    assert_eq!(checkpoint.keys(), ["EMA", "MODEL", "opt"]);
    assert!(checkpoint.tensors(&["ema"]).is_none());
    let tensors = checkpoint.tensors(&["MODEL"]).expect("a dictionary");
    let stem = &tensors["module.encoder.encoder.0.weight"];
    assert_eq!((&stem.shape, &stem.strides), (&vec![4, 3, 3, 3], &vec![27, 9, 3, 1]));
    assert_eq!(checkpoint.read("stem", stem).expect("numbers").len(), 108);
    let batches = &tensors["module.encoder.encoder.1.num_batches_tracked"];
    assert!(
        checkpoint
            .read("batches", batches)
            .unwrap_err()
            .to_string()
            .contains("integers in batches")
    );
}

#[test]
fn strides_and_offsets_are_followed_within_the_storage() {
    let storage = Storage { key: "0".into(), dtype: Dtype::F32, count: 7 };
    let mut tensor = Tensor { storage, offset: 1, shape: vec![3, 2], strides: vec![1, 3] };
    assert!(tensor.fits());
    assert_eq!(tensor.gather(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    tensor.offset = 2;
    assert!(!tensor.fits(), "its last value lies beyond the end");
    // One value repeated a billion times, and lengths that overflow.
    (tensor.shape, tensor.strides) = (vec![1_000_000_000], vec![0]);
    assert!(!tensor.fits());
    (tensor.shape, tensor.strides) = (vec![usize::MAX, usize::MAX], vec![usize::MAX, 1]);
    assert!(!tensor.fits());
}

#[test]
fn files_of_other_kinds_are_identified() {
    let refused = |bytes: &[u8], part: &str| {
        let message = open(bytes).err().expect("refused").to_string();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    };
    refused(b"", "is empty");
    refused(b"\n<!DOCTYPE html><html><title>Sign in</title>", "is a web page");
    refused(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n",
        "git lfs pull",
    );
    refused(b"\x08\x08\x12\x07pytorch\x1a\x052.8.0", "is an ONNX file");
    refused(b"\x08\x07\x3a\x10graph", "is an ONNX file");
    refused(b"\x89HDF\r\n\x1a\n\0\0", "is an HDF5 file");
    refused(b"GGUF\x03\0\0\0", "is a GGUF file");
    refused(b"\x93NUMPY\x01\0", "is a single NumPy array");
    refused(b"\x1f\x8b\x08\0", "unpack it first");
    refused(b"\x80\x04\x95\x10\0\0\0\0\0\0\0}", "is a pickle, but torch.save didn't write it");
    refused(b"some text", "is not a PyTorch checkpoint");
}

#[test]
fn values_next_to_weights_are_skipped_and_not_created() {
    let parsed = |pickle: &[u8]| Pickle::parse(pickle).expect("read");
    // Namespace(a=1), a path, numpy.float64(..), a set, a dictionary with a default.
    let skipped: [&[u8]; 5] = [
        b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\0\0\0aK\x01sb.",
        b"\x80\x02cpathlib\nPosixPath\nX\x01\0\0\0/X\x01\0\0\0d\x86R.",
        b"\x80\x02cnumpy._core.multiarray\nscalar\nN\x85R.",
        b"\x80\x02c__builtin__\nset\n]K\x01a\x85R.",
        b"\x80\x02ccollections\nCounter\n}\x85R.",
    ];
    for pickle in skipped {
        let root = parsed(pickle);
        assert!(root.dict(root.root()).is_none() && root.tensor(root.root()).is_none());
    }
    let dict =
        parsed(b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RX\x01\0\0\0aK\x01s.");
    assert!(dict.dict(dict.root()).expect("a dictionary").contains_key("a"));
    // The same names in other modules, and other names in the same modules.
    refused(b"\x80\x02cevil\nNamespace\n)R.", "evil.Namespace");
    refused(b"\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R.", "eval");
    refused(b"\x80\x02c_codecs\nlookup\n)R.", "_codecs.lookup");
}

#[test]
fn pickles_that_call_anything_are_refused_and_the_callee_is_named() {
    // os.system("true"), as a value, and discarded before the end of an innocent dictionary.
    refused(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.", "posix.system");
    refused(b"\x80\x02}cposix\nsystem\nX\x04\0\0\0true\x85R0.", "posix.system");
    refused(b"\x80\x02cbuiltins\neval\n.", "builtins.eval");
    refused(b"\x80\x02ctorch\nload\n.", "torch.load");
    // Allowed names called in another way: OrderedDict([..]), a storage type as a function.
    refused(b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "nothing was run");
    refused(b"\x80\x02ctorch\nFloatStorage\n)R.", "nothing was run");
    // A state for a list, an object built by its class, an instance, a name from the stack
    // (protocol 4).
    refused(b"\x80\x02]}b.", "nothing was run");
    refused(b"\x80\x02ccollections\nOrderedDict\n)\x81.", "0x81");
    refused(b"\x80\x02(i__main__\nA\n.", "0x69");
    refused(b"\x80\x02X\x05\0\0\0posixX\x06\0\0\0system\x93.", "0x93");
    refused(b"\x80\x04}.", "protocol 4");
}

#[test]
fn pickles_that_make_no_sense_are_refused() {
    refused(b"", "ends in the middle");
    refused(b"\x80\x02", "ends in the middle");
    refused(b"\x80\x02.", "pops from an empty stack");
    refused(b"\x80\x02}(.", "pops from an empty stack");
    refused(b"\x80\x02}(su.", "pops from an empty stack");
    refused(b"\x80\x02t.", "pops from an empty stack");
    refused(b"\x80\x02h\x07.", "reads an unset memo slot");
    refused(b"\x80\x02X\xff\xff\xff\xffab.", "ends in the middle");
    refused(b"\x80\x02X\x01\0\0\0\xff.", "UTF-8");
    refused(b"\x80\x02Nc", "ends in the middle");
    refused(b"\x80\x02K\x01Q.", "isn't a tensor storage");
    refused(&[b"\x80\x02".to_vec(), vec![b'N'; 2 << 20]].concat(), "values");
    // Tensors of 9 dimensions, of a negative one, of more dimensions than strides.
    let tensor = |shape: &str, strides: &str| {
        let storage = "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NK\x04tQ";
        format!("\x02ctorch._utils\n_rebuild_tensor_v2\n({storage}K\0{shape}{strides}tR.")
    };
    let tensor = |shape: &str, strides: &str| [b"\x80", tensor(shape, strides).as_bytes()].concat();
    assert!(Pickle::parse(&tensor("(K\x04t", "(K\x01t")).is_ok());
    refused(&tensor("(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t", "(t"), "impossible");
    refused(&tensor("(K\x04K\x01t", "(K\x01t"), "impossible");
    let negative =
        [&tensor("(", "")[..tensor("(", "").len() - 3], b"J\xff\xff\xff\xfft(K\x01ttR."].concat();
    refused(&negative, "impossible");
}

#[test]
fn a_dictionary_that_contains_itself_does_no_harm() {
    let pickle = Pickle::parse(b"\x80\x02}q\0X\x01\0\0\0ah\0s.").expect("a dictionary");
    let inner = pickle.dict(pickle.root()).expect("a dictionary")["a"];
    assert_eq!(inner, pickle.root());
}

/// A cut or damaged file is either refused or read, without a panic and without allocating memory
/// for what it merely claims to hold.
#[test]
fn cut_and_damaged_files_are_refused_or_read() {
    let whole = std::fs::read(golden("another_network.pth")).expect("a file");
    open(&whole).expect("whole, it is a checkpoint");
    for length in 0..whole.len() {
        assert!(open(&whole[..length]).is_err(), "cut to {length} bytes of {}", whole.len());
    }
    let mut refused = 0;
    for at in 0..whole.len() {
        for value in [0x00, 0xff, whole[at] ^ 1] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            let Ok(mut checkpoint) = open(&damaged) else {
                refused += 1;
                continue;
            };
            for (name, tensor) in checkpoint.tensors(&["state_dict"]).unwrap_or_default() {
                let _ = checkpoint.read(&name, &tensor);
            }
        }
    }
    assert!(
        refused > whole.len() / 2,
        "only {refused} of {} damaged files were refused",
        3 * whole.len()
    );
}

#[test]
fn a_damaged_value_is_detected_by_the_checksum() {
    let mut bytes = std::fs::read(golden("another_network.pth")).expect("a file");
    let mut checkpoint = open(&bytes).expect("a checkpoint");
    let weight = checkpoint.tensors(&["state_dict"]).expect("a dictionary")["weight"].clone();
    let values = checkpoint.read("weight", &weight).expect("numbers");
    let place =
        bytes.windows(4).position(|w| w == values[0].to_le_bytes()).expect("stored as it is");
    bytes[place] ^= 1;
    let message =
        open(&bytes).expect("its pickle is whole").read("weight", &weight).unwrap_err().to_string();
    assert!(message.contains("data/0") && message.contains("checksum"), "{message}");
}

#[test]
fn tensors_that_share_storage_eventually_exceed_the_file() {
    let whole = std::fs::read(golden("another_network.pth")).expect("a file");
    let mut checkpoint = open(&whole).expect("a checkpoint");
    let weight = checkpoint.tensors(&["state_dict"]).expect("a dictionary")["weight"].clone();
    let reads =
        (0..10_000).take_while(|_| checkpoint.read("weight", &weight).is_ok()).count() as u64;
    assert_eq!(reads, whole.len() as u64 / 8);
}

#[test]
fn files_that_are_not_archives_are_refused() {
    assert!(Archive::open(tempfile::tempfile().expect("a file")).is_err());
    let message =
        open(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").err().expect("refused").to_string();
    assert!(message.contains("ends in the middle"), "{message}");
}
