//! Classes of values that are commonly stored next to weights: arguments, paths, scores, versions.
//! Objects of these classes are skipped with everything that they hold. The list is closed, because
//! any other name may be an attempt to execute code, and such a file isn't to be trusted.

/// Packages whose classes hold settings or numbers, but no tensors that are needed.
const PACKAGES: [&str; 12] = [
    "addict",
    "datetime",
    "decimal",
    "easydict",
    "fractions",
    "lightning",
    "ml_collections",
    "numpy",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "yacs",
];

/// Classes and functions of other modules: the module, then its names.
const NAMES: [(&str, &[&str]); 9] = [
    ("_codecs", &["encode"]),
    ("argparse", &["Namespace"]),
    ("builtins", BUILTINS),
    ("__builtin__", BUILTINS),
    ("collections", &["Counter", "deque"]),
    ("copy_reg", &["_reconstructor"]),
    ("copyreg", &["_reconstructor"]),
    ("torch.torch_version", &["TorchVersion"]),
    ("types", &["SimpleNamespace"]),
];

const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
];

/// Names in `torch` itself: sizes, devices, data types.
const TORCH: [&str; 14] = [
    "Size", "bfloat16", "bool", "device", "double", "float", "float16", "float32", "float64",
    "half", "int32", "int64", "long", "uint8",
];

/// Checks whether `module.name` is skipped. (For `numpy` this includes the functions that create
/// scalars and arrays, which nothing here calls.)
pub fn is_skipped(module: &str, name: &str) -> bool {
    let package = module.split('.').next().unwrap_or(module);
    PACKAGES.contains(&package)
        || NAMES.iter().any(|(of, names)| *of == module && names.contains(&name))
        || (module == "torch" && TORCH.contains(&name))
}
