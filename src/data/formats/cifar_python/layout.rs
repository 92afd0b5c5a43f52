//! The published layouts of CIFAR.

use crate::data::cifar::CLASSES;
use crate::data::cifar100;

/// Pixels a side.
pub(super) const SIDE: usize = 32;

/// Bytes of an image.
pub(super) const IMAGE: usize = 3 * SIDE * SIDE;

/// A published layout of CIFAR.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// The folder that its archive unpacks to.
    pub(super) folder: &'static str,
    pub(super) archive: &'static str,
    pub(super) train: &'static [&'static str],
    pub(super) test: &'static str,
    /// The file that names the classes, and the key of the names in it.
    pub(super) names: Option<(&'static str, &'static str)>,
    pub(super) kind: Kind,
    pub(super) classes: &'static [&'static str],
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A dictionary with `data`, `filenames`, and labels under this key.
    Pickle { labels: &'static str },
    /// Records of this many labels, of which the last one counts, and an image.
    Records { labels: usize },
}

pub(super) const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "CIFAR-10",
        version: "the Python version",
        folder: "cifar-10-batches-py",
        archive: "cifar-10-python.tar.gz",
        train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: "test_batch",
        names: Some(("batches.meta", "label_names")),
        kind: Kind::Pickle { labels: "labels" },
        classes: &CLASSES,
    },
    Layout {
        name: "CIFAR-100",
        version: "the Python version",
        folder: "cifar-100-python",
        archive: "cifar-100-python.tar.gz",
        train: &["train"],
        test: "test",
        names: Some(("meta", "fine_label_names")),
        kind: Kind::Pickle { labels: "fine_labels" },
        classes: &cifar100::CLASSES,
    },
    Layout {
        name: "CIFAR-10",
        version: "the binary version",
        folder: "cifar-10-batches-bin",
        archive: "cifar-10-binary.tar.gz",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
        names: None,
        kind: Kind::Records { labels: 1 },
        classes: &CLASSES,
    },
    Layout {
        name: "CIFAR-100",
        version: "the binary version",
        folder: "cifar-100-binary",
        archive: "cifar-100-binary.tar.gz",
        train: &["train.bin"],
        test: "test.bin",
        names: None,
        kind: Kind::Records { labels: 2 },
        classes: &cifar100::CLASSES,
    },
];

impl Layout {
    /// Returns the training files, then the test file.
    pub(super) fn files(&self) -> Vec<&'static str> {
        self.train.iter().copied().chain([self.test]).collect()
    }
}
