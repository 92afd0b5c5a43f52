//! Remedies for errors, worded by the program that reports them.
//!
//! The library doesn't know the program's flags: it says "resume it" where the command line says
//! "add --resume".

use std::fmt::{Display, Formatter, Result};
use std::path::PathBuf;
use std::sync::OnceLock;

/// A remedy that each program words in its own way: a user of the library sets an option, a user
/// of the command line adds a flag. `Display` writes part of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// Continue the run that is there, or choose another directory.
    Resume,
    /// Choose another run directory.
    OtherRun,
    /// Accept that the recipe of a run changes, or choose another directory.
    AllowChange,
    /// Train with the recipe that is stored with the weights.
    RecipeOfWeights,
    /// Start a new run from these weights.
    StartFrom(PathBuf),
    /// Start from the weights that the run's starts.jsonl names.
    SameStart,
    /// Start at step 0 instead of continuing the training that made the weights.
    StartAtZero,
    /// Open the data that the run started with.
    SameData,
    /// Name the folder of the data.
    NameData,
    /// Download CIFAR-10 to that folder, or import its archive there.
    FetchOrImport(PathBuf),
    /// Name a place of a kind that is read as data.
    Kinds,
    /// Import the archive of a data set.
    Import,
    /// Download from a mirror, or import an archive to that folder.
    OtherSource(PathBuf),
    /// Look at what that folder holds, and name it as the data.
    Show(PathBuf),
    /// Pack the data set again.
    Pack,
    /// Leave out images that can't be read.
    SkipUnreadable,
    /// Score on held-out training images.
    SelectionSplit,
    /// Score on the test set.
    TestSplit,
    /// Use training views that are computed once.
    StoredViews,
    /// Take the tensors of this kind (`ema`, `model`) from a foreign checkpoint.
    Which(&'static str),
    /// The PyTorch export format.
    PyTorchFormat,
    /// The option that overrides a value of the recipe, as a prefix of that value.
    Override,
    /// Set one value of the recipe: `train.micro_batch=4`.
    Set(String),
    /// Pass fewer images through the networks at once.
    MicroBatch {
        /// The number of images that fits.
        size: usize,
        /// Whether the program can also search for the largest number that fits.
        search: bool,
    },
    /// Compute on the CPU.
    UseCpu,
    /// List the devices of this machine.
    ListDevices,
    /// Use a GPU through OpenGL.
    OpenGl,
    /// Use another device.
    OtherDevice,
    /// Give a benchmark more time, at least this many seconds.
    Budget(Option<f64>),
    /// Name an adapter.
    NameAdapter,
    /// The option that sets each rank's share of the batch.
    Shares,
    /// The time limit of one training call, in minutes.
    TimeLimit(f64),
    /// Resume with a changed recipe.
    ChangedRecipe,
    /// Use the top-level folders of an image folder as classes.
    FoldersAreClasses,
    /// Train that run.
    Train(PathBuf),
    /// Continue that run.
    Continue(PathBuf),
    /// Replay the step at which that run broke.
    Replay(PathBuf),
    /// Score that run on held-out training images.
    Score(PathBuf),
    /// Reconstruct images with that run's weights.
    Reconstruct(PathBuf),
}

/// A function that writes a [`Hint`] in a program's own words.
pub type Wording = fn(&Hint, &mut Formatter<'_>) -> Result;

static WORDING: OnceLock<Wording> = OnceLock::new();

/// Sets the wording of hints for this process. Returns whether it was the first to be set; later
/// ones have no effect.
pub fn word_with(wording: Wording) -> bool {
    WORDING.set(wording).is_ok()
}

impl Display for Hint {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Some(wording) = WORDING.get() {
            return wording(self, f);
        }
        match self {
            Self::Resume => write!(f, "resume it, or choose another directory"),
            Self::OtherRun => write!(f, "choose another run directory"),
            Self::AllowChange => write!(f, "allow the change, or choose another run directory"),
            Self::RecipeOfWeights => write!(f, "train with the recipe in the file"),
            Self::StartFrom(weights) => write!(f, "start a new run from {}", weights.display()),
            Self::SameStart => write!(f, "start from the weights that its starts.jsonl names"),
            Self::StartAtZero => write!(f, "start at step 0"),
            Self::SameData => write!(f, "open the same data"),
            Self::NameData => write!(f, "name the folder of the data"),
            Self::FetchOrImport(root) => {
                write!(f, "fetch or import CIFAR-10 to {}", root.display())
            }
            Self::Kinds => write!(f, "name a data set of a kind in docs/data.md"),
            Self::Import => write!(f, "import it"),
            Self::OtherSource(root) => {
                write!(f, "name a mirror, or import the archive to {}", root.display())
            }
            Self::Show(folder) => {
                write!(f, "check what {} holds, and name it as the data", folder.display())
            }
            Self::Pack => write!(f, "pack the data again"),
            Self::SkipUnreadable => write!(f, "continue without them"),
            Self::SelectionSplit => write!(f, "use the selection split"),
            Self::TestSplit => write!(f, "score on the test set"),
            Self::StoredViews => write!(f, "use plain or flipped views"),
            Self::Which(kind) => write!(f, "choose `{kind}`"),
            Self::PyTorchFormat => write!(f, "the PyTorch format"),
            Self::Override => write!(f, "override"),
            Self::Set(value) => write!(f, "set {}", value.replacen('=', " = ", 1)),
            Self::MicroBatch { size, .. } => write!(f, "set train.micro_batch = {size}"),
            Self::UseCpu => write!(f, "the CPU"),
            Self::ListDevices => Ok(()),
            Self::OpenGl => write!(f, "OpenGL may work"),
            Self::OtherDevice => write!(f, "try another device"),
            Self::Budget(None) => write!(f, "allow more time"),
            Self::Budget(Some(seconds)) => write!(f, "allow {seconds:.0} s"),
            Self::NameAdapter => write!(f, "name one (vulkan, metal or dx12)"),
            Self::Shares => write!(f, "the ranks' shares"),
            Self::TimeLimit(minutes) => write!(f, "the time limit of {minutes} minutes"),
            Self::ChangedRecipe => write!(f, "resume with a changed recipe"),
            Self::FoldersAreClasses => write!(f, "take them as classes"),
            Self::Train(run) => write!(f, "train {}", run.display()),
            Self::Continue(run) => write!(f, "resume {}", run.display()),
            Self::Replay(run) => write!(f, "replay {}", run.display()),
            Self::Score(run) => write!(f, "a probe of {}", run.display()),
            Self::Reconstruct(run) => write!(f, "a reconstruction with {}", run.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_names_no_flag() {
        let hints = [Hint::Set("train.steps=9".into()), Hint::MicroBatch { size: 4, search: true }];
        let words = hints.map(|hint| hint.to_string());
        assert_eq!(words, ["set train.steps = 9", "set train.micro_batch = 4"]);
    }
}
