//! The wording of the library's hints on the command line, in terms of flags and commands.

use soda::error::Hint;
use soda::shell::quoted;
use std::fmt::{Formatter, Result};

/// Writes `hint` in terms of this program's flags.
pub fn word(hint: &Hint, f: &mut Formatter<'_>) -> Result {
    match hint {
        Hint::Resume => {
            write!(f, "add --resume to continue it, or name another directory with --run")
        }
        Hint::OtherRun => write!(f, "choose another --run"),
        Hint::AllowChange => {
            write!(f, "add --allow-change to continue with it, or choose another --run")
        }
        Hint::RecipeOfWeights => {
            write!(f, "leave out --config and any such --set to train with the recipe in the file")
        }
        Hint::StartFrom(weights) => {
            write!(f, "start another --run with --from {}", quoted(weights))
        }
        Hint::SameStart => {
            write!(f, "with --from, name the weights it started from (see its starts.jsonl)")
        }
        Hint::StartAtZero => write!(f, "leave out --continue"),
        Hint::SameData => write!(f, "name the same data with --data"),
        Hint::NameData => write!(f, "name it with --data DIR"),
        Hint::FetchOrImport(root) => {
            let root = quoted(root);
            write!(
                f,
                "run `soda data fetch --data {root}` or `soda data import PATH --data {root}`"
            )
        }
        Hint::Kinds => write!(
            f,
            "--data takes a folder of images, CIFAR-10 or CIFAR-100, Parquet or tar shards, a \
             table of paths, a file of `soda data pack`, or `bundled` (see docs/data.md)"
        ),
        Hint::Import => write!(f, "run `soda data import PATH`"),
        Hint::OtherSource(root) => write!(
            f,
            "name a mirror with --url, or get the archive yourself and run `soda data import PATH --data {}`",
            quoted(root)
        ),
        Hint::Show(folder) => {
            let folder = quoted(folder);
            write!(f, "check it with `soda data show {folder}`, and pass it with --data {folder}")
        }
        Hint::Pack => write!(f, "write it again with `soda data pack`"),
        Hint::SkipUnreadable => write!(f, "continue without them with --skip-unreadable"),
        Hint::SelectionSplit => write!(f, "pass --split selection"),
        Hint::TestSplit => write!(f, "evaluate on the test set (--split test)"),
        Hint::StoredViews => write!(f, "use --train-views 1 or 2"),
        Hint::Which(kind) => write!(f, "choose --which {kind}"),
        Hint::PyTorchFormat => write!(f, "--pytorch"),
        Hint::Override => write!(f, "--set"),
        Hint::Set(value) => write!(f, "add --set {}", quoted(value)),
        Hint::MicroBatch { size, search: false } => {
            write!(f, "add --set train.micro_batch={size}")
        }
        Hint::MicroBatch { size, search: true } => {
            write!(f, "add --set train.micro_batch={size}, or --auto-batch")
        }
        Hint::UseCpu => write!(f, "--device cpu"),
        Hint::ListDevices => {
            write!(f, "; `soda devices` lists them, `WGPU_BACKEND=gl soda devices` those of OpenGL")
        }
        Hint::OpenGl => write!(f, "`--device gl`, which uses OpenGL, may work"),
        Hint::OtherDevice => write!(f, "try another --device"),
        Hint::Budget(None) => write!(f, "raise --budget"),
        Hint::Budget(Some(seconds)) => write!(f, "try --budget {seconds:.0}"),
        Hint::NameAdapter => write!(f, "name one: --device vulkan, metal or dx12"),
        Hint::Shares => write!(f, "--shares can give it less work"),
        Hint::TimeLimit(minutes) => write!(f, "--max-minutes {minutes}"),
        Hint::ChangedRecipe => write!(f, "--resume --set .. --allow-change"),
        Hint::FoldersAreClasses => write!(f, "leave out --layout splits"),
        Hint::Train(run) => write!(f, "train it with `soda train --resume --run {}`", quoted(run)),
        Hint::Continue(run) => {
            write!(f, "continue it with `soda train --resume --run {}`", quoted(run))
        }
        Hint::Replay(run) => write!(f, "run `soda replay --run {}`", quoted(run)),
        Hint::Score(run) => {
            write!(f, "`soda probe --split selection --run {}`", quoted(run))
        }
        Hint::Reconstruct(run) => write!(f, "`soda reconstruct --run {}`", quoted(run)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hint as the program words it.
    struct Worded(Hint);

    impl std::fmt::Display for Worded {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            word(&self.0, f)
        }
    }

    #[test]
    fn a_path_is_a_single_word_of_a_printed_command() {
        let words = |hint: Hint, from: &str| {
            let said = Worded(hint).to_string();
            let (_, command) = said.split_once(from).expect("a command");
            shlex::split(command.trim_end_matches('`')).expect("whole quotes")
        };
        let run = || "it's a run".into();
        assert_eq!(words(Hint::Replay(run()), "run `"), ["soda", "replay", "--run", "it's a run"]);
        let weights = "it's a run/checkpoints/step_4/ema.safetensors";
        assert_eq!(words(Hint::StartFrom(weights.into()), "--from "), [weights]);
        assert_eq!(
            words(Hint::FetchOrImport(run()), "or `"),
            ["soda", "data", "import", "PATH", "--data", "it's a run",]
        );
        let resume = ["soda", "train", "--resume", "--run", "it's a run"];
        assert_eq!(words(Hint::Continue(run()), "with `"), resume);
    }
}
