//! The confusion matrix and calibration of a probe.

use serde::Serialize;
use std::cmp::Reverse;

/// A classifier's predictions on test rows, summarised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdicts {
    /// Row c, column p: the number of rows of class c that were predicted as class p.
    pub confusion: Vec<Vec<usize>>,
    /// Confidence compared with accuracy.
    pub calibration: Calibration,
}

impl Verdicts {
    /// Returns the `most` classes with the most errors, of their own rows or in favour of them, in
    /// their order; all classes if there are no more.
    pub fn most_confused(&self, most: usize) -> Vec<usize> {
        let mut errors = vec![0; self.confusion.len()];
        for (class, row) in self.confusion.iter().enumerate() {
            for (predicted, &n) in row.iter().enumerate().filter(|(p, _)| *p != class) {
                errors[class] += n;
                errors[predicted] += n;
            }
        }
        let mut classes: Vec<usize> = (0..errors.len()).collect();
        classes.sort_by_key(|&class| Reverse(errors[class]));
        classes.truncate(most);
        classes.sort_unstable();
        classes
    }
}

/// Computes the confusion matrix and calibration of `logits` `[N, C]` on rows of classes `labels`
/// `[N]`.
pub fn verdicts(logits: &[f32], labels: &[u16], classes: usize) -> Verdicts {
    let mut confusion = vec![vec![0; classes]; classes];
    for (logits, &label) in logits.chunks_exact(classes).zip(labels) {
        confusion[usize::from(label)][likeliest(logits)] += 1;
    }
    Verdicts { confusion, calibration: calibration(logits, labels, classes) }
}

/// How far predicted probabilities are from observed frequencies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean of |confidence -
    /// accuracy| over the bins, weighted by their rows, in per cent.
    pub ece: f64,
    /// Mean confidence, in per cent; if it is above the accuracy, the probe is overconfident.
    pub confidence: f64,
    /// The non-empty bins, of 15 of equal width.
    pub bins: Vec<Bin>,
}

/// The rows whose most likely class has a probability within one fifteenth of 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Number of rows.
    pub rows: usize,
    /// Mean probability of the most likely class, in per cent.
    pub confidence: f64,
    /// Share of the rows whose class is the most likely one, in per cent.
    pub accuracy: f64,
}

/// Number of bins of [`calibration`].
const BINS: usize = 15;

/// Computes the calibration of softmax(`logits`) `[N, C]` on rows of classes `labels` `[N]`.
fn calibration(logits: &[f32], labels: &[u16], classes: usize) -> Calibration {
    let mut sums = [(0usize, 0.0, 0usize); BINS];
    for (logits, &label) in logits.chunks_exact(classes).zip(labels) {
        let best = likeliest(logits);
        let sum: f64 = logits.iter().map(|l| f64::from(l - logits[best]).exp()).sum();
        let confidence = 1.0 / sum;
        let bin = &mut sums[((confidence * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + usize::from(best == usize::from(label)));
    }
    let n = labels.len() as f64;
    let bins: Vec<Bin> = sums
        .iter()
        .filter(|s| s.0 > 0)
        .map(|&(rows, confidence, right)| {
            let share = |sum: f64| 100.0 * sum / rows as f64;
            Bin { rows, confidence: share(confidence), accuracy: share(right as f64) }
        })
        .collect();
    let over = |f: fn(&Bin) -> f64| bins.iter().map(|b| f(b) * b.rows as f64).sum::<f64>() / n;
    Calibration {
        ece: over(|b| (b.confidence - b.accuracy).abs()),
        confidence: over(|b| b.confidence),
        bins,
    }
}

/// Returns the class of the highest logit; ties go to the lower class.
fn likeliest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_confused_classes_are_those_with_the_most_errors() {
        // One row of class 1 is taken for class 3; two of class 4 for class 3.
        let mut confusion = vec![vec![0; 5]; 5];
        (0..5).for_each(|class| confusion[class][class] = 9);
        (confusion[1][3], confusion[4][3]) = (1, 2);
        let mut found = verdicts(&[0.0, 1.0], &[1], 2);
        found.confusion = confusion;
        assert_eq!(found.most_confused(2), [3, 4]);
        assert_eq!(found.most_confused(3), [1, 3, 4]);
        assert_eq!(found.most_confused(9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_confusion_matrix_and_calibration_worked_by_hand() {
        // Probabilities 3/4, 3/4, 3/4, 9/10 of class 0, 0, 1, 1: right, wrong, right, right.
        let (a, b) = (3f32.ln(), 9f32.ln());
        let logits = [a, 0.0, a, 0.0, 0.0, a, 0.0, b];
        let found = verdicts(&logits, &[0, 1, 1, 1], 2);
        assert_eq!(found.confusion, vec![vec![1, 0], vec![1, 2]]);
        let c = found.calibration;
        assert_eq!(c.bins.iter().map(|b| b.rows).collect::<Vec<_>>(), [3, 1]);
        // f32 logits: 1e-5 per cent.
        let close = |got: f64, want: f64| {
            assert!((got - want).abs() < 1e-5 * want, "{got} instead of {want}")
        };
        close(c.bins[0].confidence, 75.0);
        close(c.bins[0].accuracy, 200.0 / 3.0);
        close(c.confidence, (3.0 * 75.0 + 90.0) / 4.0);
        close(c.ece, (3.0 * (75.0 - 200.0 / 3.0) + 10.0) / 4.0);
        // Negative control: confident in the wrong classes.
        assert!(verdicts(&logits, &[1, 1, 0, 0], 2).calibration.ece > 75.0);
    }
}
