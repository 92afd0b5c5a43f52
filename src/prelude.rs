//! What most programs on this library need: `use soda::prelude::*;`.

pub use crate::config::Config;
pub use crate::data::{Dataset, Images, bundled};
pub use crate::device::{Selected, select};
pub use crate::diffusion::Schedule;
pub use crate::edit::generator::Generator;
pub use crate::error::{Error, Result};
pub use crate::eval::features::{FeatureKind, Features, encode};
pub use crate::model::Soda;
pub use crate::model::weights::WeightsFile;
pub use crate::run_dir::RunDir;
pub use crate::train::run::{Options, Summary, train};
