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
    let (train, queries) =
        (clusters(2 * TRAIN_BLOCK + 100, 9, 4, 1.0, 0), clusters(QUERY_BLOCK + 7, 9, 4, 1.0, 1));
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
    assert!(message.starts_with("the training features hold NaN (row 3, entry 1)"), "{message}");
    assert!(
        score(&train, &test, 3, Rule::KNN).unwrap_err().to_string().contains("there are 3 classes")
    );
    let none = Features { dim: 32, values: vec![], labels: vec![] };
    assert!(score(&train, &none, 4, Rule::KNN).unwrap_err().to_string().contains("0 test rows"));
}
