//! Two more tests of each kernel: the same inputs must give the same bits, and a non-finite input
//! must remain visible in the output.

use super::outcome::Outcome;
use crate::device::Selected;
use crate::error::Result;
use crate::kernels::catalog::{self, Case, Operation, Results, Suite};
use std::collections::BTreeSet;
use std::time::Instant;

/// Returns the first self-test case of each kernel.
pub(super) fn first_cases(operations: &[&dyn Operation]) -> Vec<Case> {
    let mut seen = BTreeSet::new();
    catalog::cases(operations, Suite::SelfTest)
        .into_iter()
        .filter(|case| seen.insert(case.kernel))
        .collect()
}

/// Tests whether two runs of `case` give the same bits.
pub(super) fn same_bits(case: &Case, device: &Selected) -> Result<Outcome> {
    let clock = Instant::now();
    let [first, second] = [case.results(&device.device)?, case.results(&device.device)?];
    Ok(outcome(case, "twice", difference(&first, &second), clock, false))
}

/// Tests whether a NaN or an infinity in the first input of `case` produces a non-finite value in
/// the output. Training relies on that to notice divergence. With a compiler that assumes finite
/// values it merely notices later, so that a failure is only a warning.
pub(super) fn shows_what_is_not_finite(case: &mut Case, device: &Selected) -> Result<Outcome> {
    let clock = Instant::now();
    let mut hidden = None;
    for (poison, what) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity")] {
        case.inputs[0].poison = Some(poison);
        let results = case.results(&device.device)?;
        if results.iter().all(|(_, values)| values.iter().all(|v| v.is_finite())) {
            hidden.get_or_insert(what.to_owned());
        }
    }
    case.inputs[0].poison = None;
    Ok(outcome(case, "not finite", hidden, clock, true))
}

/// Returns the name of the first result that differs in any bit.
fn difference(first: &Results, second: &Results) -> Option<String> {
    let same = |a: &[f32], b: &[f32]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    first.iter().zip(second).find(|((_, a), (_, b))| !same(a, b)).map(|((name, _), _)| name.clone())
}

fn outcome(case: &Case, how: &str, wrong: Option<String>, clock: Instant, warns: bool) -> Outcome {
    Outcome {
        kernel: case.kernel,
        size: format!("{}, {how}", case.size()),
        worst: if wrong.is_some() { f32::INFINITY } else { 0.0 },
        of: wrong.unwrap_or_else(|| "all results".into()),
        milliseconds: clock.elapsed().as_secs_f64() * 1e3,
        warns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_compared_bitwise() {
        let of = |value: f32| vec![("a".to_owned(), vec![1.0]), ("b".to_owned(), vec![2.0, value])];
        assert_eq!(difference(&of(0.0), &of(0.0)), None);
        assert_eq!(difference(&of(0.0), &of(-0.0)), Some("b".into()));
        assert_eq!(difference(&of(f32::NAN), &of(f32::NAN)), None);
    }
}
