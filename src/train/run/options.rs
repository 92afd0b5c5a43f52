//! The options of a call of training, and its result.

use crate::model::weights::WeightsFile;
use crate::run_dir::Row;
use crate::train::exchange::Among;
use serde::Serialize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The options of a call of [`train`](fn@crate::train::run::train).
#[derive(Clone, Default)]
pub struct Options {
    /// The time limit, closing work included. The call ends within it like a finished run; at least
    /// one step is taken.
    pub limit: Option<Duration>,
    /// Whether to continue from the newest checkpoint, or start if there is none.
    pub resume: bool,
    /// The weights that a new run starts from; `None`: random weights. Ignored when a run resumes.
    pub from: Option<Arc<WeightsFile>>,
    /// Whether to continue the training that made those weights instead of starting at step 0.
    pub continues: bool,
    /// Whether to resume with a recipe that differs from the run's own, if its networks are the
    /// same.
    pub allow_change: bool,
    /// The flag that a caller sets to stop after the current step, with a checkpoint.
    pub interrupt: Arc<AtomicBool>,
    /// What is called with each row of the log, for a stopping rule of one's own: when it breaks, the
    /// run ends after the next step as at a time limit, with a checkpoint, a picture and scores.
    pub on_row: Option<OnRow>,
    /// The details of the command line for starts.jsonl.
    pub called: Called,
    /// The processes that train together, of which this is rank 0; `None`: it trains alone.
    pub among: Option<Among>,
}

/// See [`Options::on_row`].
pub type OnRow = Arc<dyn Fn(&Row) -> ControlFlow<()> + Send + Sync>;

/// How training was called.
#[derive(Clone, Debug, Default)]
pub struct Called {
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The name of the weights of [`Options::from`]: `shipped`, or their absolute path.
    pub from: Option<String>,
}

/// The result of a call of [`train`](fn@crate::train::run::train).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Steps of the whole run.
    pub steps: u64,
    /// Throughput of the whole run in training alone, without checkpoints, pictures and scores.
    pub images_per_s: f64,
    /// Mean loss of the first row of the log.
    pub loss_first: f64,
    /// Mean loss of the last row.
    pub loss_last: f64,
    /// Steps of this call.
    pub trained: u64,
    /// Whether it was interrupted before its last step.
    pub interrupted: bool,
    /// Step of the checkpoint with the best k-NN on held-out training images, if any was scored.
    pub best: Option<u64>,
}
