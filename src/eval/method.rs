//! The protocols that score features (docs/commands.md, "Probe").

use super::features::Rows;
use super::knn::{self, Rule};
use super::linear::{LinearProbe, Scores};
use super::linear_full;
use crate::config::ProbeConfig;
use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// How features and labels become a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// SODA's probe for CIFAR: BatchNorm and one linear layer, trained with Adam; see
    /// [`super::linear`].
    Linear,
    /// Logistic regression to convergence; see [`super::linear_full`].
    LinearFull,
    /// 20 nearest neighbours with equal votes; see [`super::knn`].
    Knn,
    /// 200 nearest neighbours, weighted votes.
    KnnLightly,
}

impl Method {
    /// All protocols.
    pub const ALL: [Method; 4] =
        [Method::Linear, Method::LinearFull, Method::Knn, Method::KnnLightly];

    fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::LinearFull => "linear-full",
            Self::Knn => "knn",
            Self::KnnLightly => "knn-lightly",
        }
    }

    /// Whether the result depends on a seed; if not, a single run is enough.
    pub fn is_drawn(self) -> bool {
        self == Self::Linear
    }

    /// Returns how neighbours vote, for the k-NN protocols.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Self::Linear | Self::LinearFull => None,
            Self::Knn => Some(Rule::KNN),
            Self::KnnLightly => Some(Rule::LIGHTLY),
        }
    }

    /// Fits on `train` and scores on `test`. `config` and `seed` apply to `linear`; `name` labels
    /// the run in progress output.
    ///
    /// # Errors
    /// If features are not finite, a class is outside 0..`classes`, or there are too few rows.
    pub fn score(
        self,
        train: &dyn Rows,
        test: &dyn Rows,
        classes: usize,
        (config, seed, name): (&ProbeConfig, u64, &str),
    ) -> Result<Scores> {
        match (self, self.rule()) {
            (_, Some(rule)) => knn::score(train, test, classes, rule),
            (Self::Linear, _) => {
                LinearProbe::trained(train, classes, config, seed, name)?.score(test)
            }
            _ => linear_full::score(train, test, classes),
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|m| m.name() == text);
        found.ok_or_else(|| Error::usage(format!("protocol {text:?}: expected one of {names}")))
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_to_the_same_method() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
            assert_eq!(serde_json::to_value(method).unwrap(), method.to_string());
        }
        assert!(
            "knn20"
                .parse::<Method>()
                .unwrap_err()
                .to_string()
                .contains("linear-full, knn, knn-lightly")
        );
    }
}
