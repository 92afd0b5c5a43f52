//! Training: the loop, the step, the optimizer, the EMA, and the state of a run on disk.

pub mod checkpoint;
#[doc(hidden)]
pub mod cooldown;
#[doc(hidden)]
pub mod decorrelation;
pub mod ema;
#[doc(hidden)]
pub mod exchange;
#[doc(hidden)]
pub mod follow;
#[doc(hidden)]
pub mod limits;
pub mod masking;
pub mod optim;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod replay;
pub mod run;
#[doc(hidden)]
pub mod saver;
pub mod step;
#[doc(hidden)]
pub mod survey;
#[doc(hidden)]
pub mod tally;
#[doc(hidden)]
pub mod trial;
