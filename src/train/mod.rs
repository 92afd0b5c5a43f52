//! Training: the loop, the step, the optimizer, the EMA, and the state of a run on disk.

pub mod checkpoint;
pub mod cooldown;
pub mod decorrelation;
pub mod ema;
pub mod exchange;
pub mod follow;
pub mod limits;
pub mod masking;
pub mod optim;
pub mod plan;
pub mod replay;
pub mod run;
pub mod saver;
pub mod step;
pub mod survey;
pub mod tally;
pub mod trial;
