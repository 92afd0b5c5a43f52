//! The work that is due after a step.

use crate::config::TrainConfig;

/// Work other than training steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Work {
    Picture,
    Scores,
}

/// The work that is due after a step.
#[derive(Debug, PartialEq)]
pub(super) struct Due {
    /// Whether the run ends.
    pub last: bool,
    /// Whether it ends because of the time limit.
    pub cut: bool,
    pub row: bool,
    pub save: bool,
    pub draw: bool,
    pub score: bool,
}

impl Due {
    /// Decides what is due after `step`; scores only if the run `is_scored`. `is_over` tells whether
    /// there is no time for another step after the due work. After an interrupt only a checkpoint is
    /// saved: pictures can be drawn later, and a resumed run is scored later.
    pub fn after(
        step: u64,
        train: &TrainConfig,
        is_scored: bool,
        interrupted: bool,
        is_over: impl Fn(&[Work]) -> bool,
    ) -> Self {
        let due = |every: usize| every > 0 && step.is_multiple_of(every as u64);
        let (draw, score) = (due(train.sample_every), is_scored && due(train.evaluate_every));
        let work: Vec<Work> = [(draw, Work::Picture), (score, Work::Scores)]
            .iter()
            .filter(|w| w.0)
            .map(|w| w.1)
            .collect();
        let end = step >= train.steps as u64;
        let cut = !end && is_over(&work);
        let last = end || cut;
        let (draw, score) = (draw || last, score || (last && is_scored));
        let save = due(train.checkpoint_every) || score || last || interrupted;
        Self {
            last,
            cut,
            // A row finds out whether the loss is finite, before a picture fails for that reason.
            row: due(train.log_every) || save || draw,
            save,
            draw: draw && !interrupted,
            score: score && !interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BUILT_IN, Config};

    #[test]
    fn after_the_last_step_everything_is_due_and_after_an_interrupt_only_a_checkpoint() {
        let sets = [
            "train.steps=100",
            "train.log_every=4",
            "train.checkpoint_every=8",
            "train.sample_every=16",
            "train.evaluate_every=32",
        ];
        let train = Config::parse(BUILT_IN[1].1, "quick.toml", &sets.map(str::to_owned))
            .expect("a recipe")
            .train;
        let [nothing, all] = [false, true].map(|all| Due {
            last: all,
            cut: false,
            row: all,
            save: all,
            draw: all,
            score: all,
        });
        let after = |step, interrupted| Due::after(step, &train, true, interrupted, |_| false);
        assert_eq!((after(3, false), after(100, false)), (nothing, Due { ..all }));
        assert_eq!(
            after(48, false),
            Due { last: false, cut: false, row: true, save: true, draw: true, score: false }
        );
        assert_eq!(after(100, true), Due { draw: false, score: false, ..all });
        let stopped =
            Due { last: false, cut: false, row: true, save: true, draw: false, score: false };
        assert_eq!((after(3, true), after(32, true)), (Due { ..stopped }, stopped));
        // There is time for further steps, except after scores.
        let busy =
            |step| Due::after(step, &train, true, false, |work| work.contains(&Work::Scores));
        assert!(!busy(48).last && busy(64).last && busy(64).cut && busy(64).draw);
        // A picture comes with a row, and without classes nothing is scored or saved for it.
        let train = TrainConfig { sample_every: 7, checkpoint_every: 0, ..train };
        let unscored = |step| Due::after(step, &train, false, false, |_| false);
        assert!(unscored(7).draw && unscored(7).row && !unscored(7).save);
        assert!(!unscored(32).score && !unscored(32).save);
        assert!(!unscored(100).score && unscored(100).save);
    }
}
