//! Nearest neighbours of the L2-normalised features of plain images: the protocols `knn` and
//! `knn-lightly` (docs/commands.md, "Probe"), and the neighbours themselves.
//!
//! In small data sets fewer neighbours vote, see [`Rule::among`].
//!
//! All pairs are compared by blocked f32 matrix products; only a block of the cosines is held at a
//! time.

use super::features::Rows;
use super::linear::{Scores, rank};
use crate::error::{Error, Result};
use crate::kernels::gemm::{Matrix, product};
use crate::progress::Progress;
use rayon::prelude::*;
use std::cmp::Ordering;

/// Training rows and queries per block: 1 MiB of cosines for each thread.
const TRAIN_BLOCK: usize = 1024;
const QUERY_BLOCK: usize = 256;
/// The smallest norm that a feature vector is divided by (`torch.nn.functional.normalize`).
const MIN_NORM: f64 = 1e-12;

/// How the nearest training rows vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The number of neighbours that vote; fewer in small data sets, see [`Rule::among`].
    pub k: usize,
    /// A vote has weight exp(cosine / temperature); `None`: all weights are 1.
    pub temperature: Option<f64>,
}

impl Rule {
    /// `knn`: 20 votes of equal weight.
    pub const KNN: Rule = Rule { k: 20, temperature: None };
    /// `knn-lightly`: 200 votes at temperature 0.1, as in the benchmarks of lightly (weights: Wu et
    /// al. 2018).
    pub const LIGHTLY: Rule = Rule { k: 200, temperature: Some(0.1) };

    /// Returns the rule for `rows` training rows of `classes` classes, with at most as many
    /// neighbours as a class has rows on average. With more, other classes would outvote a class
    /// whatever the features show; with all rows, everything would be assigned to the largest
    /// class.
    pub fn among(self, rows: usize, classes: usize) -> Self {
        Self { k: self.k.min((rows / classes.max(1)).max(1)), ..self }
    }

    fn weight(self, cosine: f32) -> f64 {
        self.temperature.map_or(1.0, |t| (f64::from(cosine) / t).exp())
    }
}

/// Classifies each row of `test` by the votes of its nearest training rows, as many as
/// [`Rule::among`] allows, and compares the result with its label. On normalised vectors the
/// largest cosine and the smallest Euclidean distance select the same neighbours. Ties between
/// classes go to the lower class (as in scikit-learn); a class without any vote ranks last.
///
/// # Errors
/// If features are not finite, a class is outside 0..`classes`, or there are no rows.
///
/// # Panics
/// If the feature lengths of `test` and `train` differ, or `values` is not `[N, D]`.
pub fn score(train: &dyn Rows, test: &dyn Rows, classes: usize, rule: Rule) -> Result<Scores> {
    train.check("training", train.dim(), classes)?;
    test.check("test", train.dim(), classes)?;
    if train.rows() == 0 || test.rows() == 0 {
        let (train, test) = (train.rows(), test.rows());
        return Err(Error::failed(format!(
            "{train} training and {test} test rows: k-NN needs at least one of each"
        )));
    }
    let rule = rule.among(train.rows(), classes);
    let ranks =
        nearest(train, test, rule.k).into_iter().zip(test.labels()).map(|(neighbours, &label)| {
            let mut votes = vec![0.0; classes];
            for (row, cosine) in neighbours {
                votes[usize::from(train.labels()[row])] += rule.weight(cosine);
            }
            vote_rank(&votes, label.into())
        });
    Ok(Scores::of_ranks(&ranks.collect::<Vec<_>>(), classes))
}

/// Finds, for each row of `queries`, the `k` rows of `train` (all, if there are fewer) with the
/// largest cosine: (row, cosine) by descending cosine, ties by ascending row. A row that is in both
/// sets is its own first neighbour, at a cosine of 1 up to rounding.
///
/// # Panics
/// If the feature lengths of `queries` and `train` differ.
pub fn nearest(train: &dyn Rows, queries: &dyn Rows, k: usize) -> Vec<Vec<(usize, f32)>> {
    assert_eq!(
        train.dim(),
        queries.dim(),
        "queries: length of a vector, compared with that of the training features"
    );
    let (dim, k) = (train.dim(), k.min(train.rows()));
    let mut best: Vec<Best> = (0..queries.rows()).map(|_| Best::new(k)).collect();
    if k == 0 || dim == 0 {
        return best.into_iter().map(Best::finish).collect();
    }
    let mut block = Vec::new();
    let progress = Progress::new("finding nearest neighbours", Some(train.rows()));
    for start in (0..train.rows()).step_by(TRAIN_BLOCK) {
        let rows = TRAIN_BLOCK.min(train.rows() - start);
        block.resize(rows * dim, 0.0);
        block
            .par_chunks_mut(dim)
            .enumerate()
            .for_each(|(i, to)| read_normalised(train, start + i, to));

        best.par_chunks_mut(QUERY_BLOCK).enumerate().for_each_init(
            Scratch::default,
            |scratch, (number, best)| {
                let Scratch { normalised, cosines } = scratch;
                normalised.resize(best.len() * dim, 0.0);
                let first = number * QUERY_BLOCK;
                normalised
                    .chunks_exact_mut(dim)
                    .enumerate()
                    .for_each(|(i, to)| read_normalised(queries, first + i, to));
                cosines.resize(best.len() * rows, 0.0);
                let (a, b) = (Matrix::new(normalised, dim), Matrix::new(&block, dim).t());
                product((best.len(), rows, dim), 1.0, a, b, cosines, rows);
                for (best, cosines) in best.iter_mut().zip(cosines.chunks_exact(rows)) {
                    cosines
                        .iter()
                        .enumerate()
                        .for_each(|(i, &cosine)| best.offer(start + i, cosine));
                }
            },
        );
        progress.add(rows);
    }
    best.into_iter().map(Best::finish).collect()
}

/// A thread's block of normalised queries and their cosines, `[queries, training rows]`.
#[derive(Default)]
struct Scratch {
    normalised: Vec<f32>,
    cosines: Vec<f32>,
}

/// The best k of the rows offered so far, which come in ascending order. Up to 2k candidates are
/// collected between sorts.
struct Best {
    k: usize,
    /// The k-th best cosine at the last sort; candidates that are no better are discarded.
    floor: f32,
    found: Vec<(u32, f32)>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, floor: f32::NEG_INFINITY, found: Vec::new() }
    }

    fn offer(&mut self, row: usize, cosine: f32) {
        // Ties go to the earlier row.
        if cosine > self.floor {
            self.found.push((row as u32, cosine));
            if self.found.len() >= 2 * self.k {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering {
            b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
        };
        self.found.sort_unstable_by(order);
        self.found.truncate(self.k);
        if let Some((_, worst)) = self.found.get(self.k - 1) {
            self.floor = *worst;
        }
    }

    fn finish(mut self) -> Vec<(usize, f32)> {
        if self.k > 0 {
            self.shrink();
        }
        self.found.into_iter().map(|(row, cosine)| (row as usize, cosine)).collect()
    }
}

/// Reads row `i` of `rows`, scaled to length 1.
fn read_normalised(rows: &dyn Rows, i: usize, to: &mut [f32]) {
    rows.read(i, 0, to);
    let scale = inverse_norm(to);
    to.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
}

pub(super) fn normalise(from: &[f32], to: &mut [f32]) {
    let scale = inverse_norm(from);
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = (f64::from(from) * scale) as f32);
}

fn inverse_norm(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    squares.sqrt().max(MIN_NORM).recip()
}

/// Returns the [`rank`] of `label`; a class without votes comes last.
fn vote_rank(votes: &[f64], label: usize) -> usize {
    if votes[label] > 0.0 { rank(votes, label) } else { votes.len() - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::features::Features;
    use crate::rng::{self, Purpose};
    use rand::RngExt;

    /// `n` rows of noise, with `signal` added to the entry that is the row's label.
    fn clusters(n: usize, dim: usize, classes: u16, signal: f32, index: u64) -> Features {
        let mut rng = rng::stream(6, Purpose::Test, index);
        let labels: Vec<u16> = (0..n).map(|_| rng.random_range(0..classes)).collect();
        let mut values = rng::normal(&mut rng, n * dim);
        values
            .chunks_exact_mut(dim)
            .zip(&labels)
            .for_each(|(row, &label)| row[usize::from(label)] += signal);
        Features { dim, values, labels }
    }

    /// Cosines between one query and all rows, by plain loops in f64.
    fn cosines(train: &Features, query: &[f32]) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        train
            .values
            .chunks_exact(train.dim)
            .map(|row| dot(row, query) / (dot(row, row) * dot(query, query)).sqrt())
            .collect()
    }

    /// Rounding error of a cosine in f32: the sums have about ten terms, each rounded by 6e-8 of at
    /// most 1.
    const ROUNDING: f64 = 1e-6;

    #[test]
    fn neighbours_match_a_plain_loop_across_blocks() {
        // Two blocks and a partial one of training rows, one block and a partial one of queries.
        let (train, queries) = (
            clusters(2 * TRAIN_BLOCK + 100, 9, 4, 1.0, 0),
            clusters(QUERY_BLOCK + 7, 9, 4, 1.0, 1),
        );
        for k in [1, 20] {
            let found = nearest(&train, &queries, k);
            assert_eq!(found.len(), queries.rows());
            for (i, found) in found.iter().enumerate() {
                let want = cosines(&train, queries.row(i));
                let mut sorted = want.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                assert_eq!(found.len(), k);
                let mut rows: Vec<usize> = found.iter().map(|f| f.0).collect();
                for ((row, cosine), nth) in found.iter().zip(&sorted) {
                    assert!(
                        (f64::from(*cosine) - want[*row]).abs() < ROUNDING,
                        "query {i}: {cosine} instead of {}",
                        want[*row]
                    );
                    assert!(
                        (want[*row] - nth).abs() < ROUNDING,
                        "query {i}: row {row} is not the next"
                    );
                }
                assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
                rows.sort_unstable();
                rows.dedup();
                assert_eq!(rows.len(), k, "no row twice");
            }
        }
    }

    #[test]
    fn scores_match_a_plain_loop_for_both_rules() {
        let (train, test) = (clusters(1500, 8, 5, 1.5, 2), clusters(400, 8, 5, 1.5, 3));
        let rules = [Rule { k: 7, temperature: None }, Rule::KNN, Rule::LIGHTLY];
        let scores = rules.map(|rule| score(&train, &test, 5, rule).unwrap());
        for (rule, got) in rules.iter().zip(&scores) {
            let mut right = [0; 2];
            for i in 0..test.rows() {
                let cosines = cosines(&train, test.row(i));
                let mut order: Vec<usize> = (0..train.rows()).collect();
                order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
                let mut votes = [(0.0, 0), (0.0, 1), (0.0, 2), (0.0, 3), (0.0, 4)];
                for &row in &order[..rule.k] {
                    votes[usize::from(train.labels()[row])].0 +=
                        rule.temperature.map_or(1.0, |t| (cosines[row] / t).exp());
                }
                votes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                for (right, k) in right.iter_mut().zip([1, 3]) {
                    *right +=
                        usize::from(votes[..k].iter().any(|v| v.0 > 0.0 && v.1 == test.labels[i]));
                }
            }
            // The k-th neighbour may change by rounding: one row of 400 is 0.25 %.
            for (got, right) in [(got.top1, right[0]), (got.top3.unwrap(), right[1])] {
                assert!(
                    (got - right as f64 / 4.0).abs() < 0.26,
                    "{rule:?}: {got} compared with {right} of 400"
                );
            }
            assert_eq!(got.top5, None);
        }
        // Negative control: the rules give different scores, and all are better than chance.
        assert!(scores[0] != scores[1] && scores[1] != scores[2], "{scores:?}");
        assert!(scores.iter().all(|s| s.top1 > 40.0), "{scores:?}");
    }

    #[test]
    fn length_does_not_matter_and_ties_come_in_row_order() {
        let train = Features {
            dim: 2,
            values: vec![0.0, 9.0, 1e20, 1e20, 1e-20, 0.0, 3.0, 3.0, 0.0, 0.0],
            labels: vec![0, 1, 2, 3, 4],
        };
        let query = Features { dim: 2, values: vec![2.0, 2.0], labels: vec![1] };
        let found = nearest(&train, &query, 3);
        // (1, 1) lies between (0, 1) and (1, 0); a vector of length 0 has the cosine 0.
        assert_eq!(found[0].iter().map(|f| f.0).collect::<Vec<_>>(), [1, 3, 0]);
        assert!((found[0][2].1 - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(
            nearest(&train, &query, 9)[0].iter().map(|f| f.0).collect::<Vec<_>>(),
            [1, 3, 0, 2, 4]
        );
        assert_eq!(nearest(&train, &query, 0), [vec![]]);
    }

    #[test]
    fn equal_votes_go_to_the_lower_class_and_no_votes_come_last() {
        let votes = [0.0, 2.0, 3.0, 2.0, 0.0];
        assert_eq!([0, 1, 2, 3, 4].map(|label| vote_rank(&votes, label)), [4, 1, 0, 2, 4]);
    }

    #[test]
    fn at_most_as_many_vote_as_a_class_has_rows_and_random_labels_stay_near_chance() {
        let (train, test) = (clusters(12, 6, 3, 8.0, 4), clusters(100, 6, 3, 8.0, 5));
        assert!(score(&train, &test, 3, Rule { k: 3, temperature: None }).unwrap().top1 > 95.0);
        let (few, four) =
            (score(&train, &test, 3, Rule::KNN).unwrap(), Rule { k: 4, temperature: None });
        assert_eq!(few, score(&train, &test, 3, four).unwrap());
        let k = |rows, classes| Rule::KNN.among(rows, classes).k;
        assert_eq!([k(22, 2), k(40, 2), k(50_000, 10), k(3, 10), k(5, 0)], [11, 20, 20, 1, 5]);
        // 15 rows of one class and 7 of the other, far apart: if all rows voted, the smaller class
        // would never be predicted.
        let mut uneven = clusters(22, 6, 2, 0.0, 8);
        uneven.labels = (0..22).map(|i| u16::from(i >= 15)).collect();
        uneven
            .values
            .chunks_exact_mut(6)
            .zip(&uneven.labels)
            .for_each(|(row, &l)| row[usize::from(l)] += 20.0);
        assert_eq!(score(&uneven, &uneven, 2, Rule::KNN).unwrap().top1, 100.0);
        let (train, test) = (clusters(1000, 16, 10, 0.0, 6), clusters(2000, 16, 10, 0.0, 7));
        for rule in [Rule::KNN, Rule::LIGHTLY] {
            let top1 = score(&train, &test, 10, rule).unwrap().top1;
            // Five standard errors of a tenth of 2000.
            assert!((top1 - 10.0).abs() < 500.0 * (0.09f64 / 2000.0).sqrt(), "{top1}");
        }
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads_and_rejects_bad_input() {
        let (train, test) = (clusters(3000, 32, 4, 1.0, 8), clusters(600, 32, 4, 1.0, 9));
        let with = |n: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .build()
                .unwrap()
                .install(|| nearest(&train, &test, 5))
        };
        assert_eq!(with(1), with(5));
        let mut bad = train.clone();
        bad.values[3 * 32 + 1] = f32::NAN;
        let message = score(&bad, &test, 4, Rule::KNN).unwrap_err().to_string();
        assert!(
            message.starts_with("the training features hold NaN (row 3, entry 1)"),
            "{message}"
        );
        assert!(
            score(&train, &test, 3, Rule::KNN)
                .unwrap_err()
                .to_string()
                .contains("there are 3 classes")
        );
        let none = Features { dim: 32, values: vec![], labels: vec![] };
        assert!(
            score(&train, &none, 4, Rule::KNN).unwrap_err().to_string().contains("0 test rows")
        );
    }
}
