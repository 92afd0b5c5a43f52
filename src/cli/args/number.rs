//! Numbers on the command line, refused in words where they are out of range.

use indicatif::HumanCount;
use std::ops::{Bound, RangeBounds};

/// Returns a parser of whole numbers within `range`, for clap.
pub fn count<T>(
    range: impl RangeBounds<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<u64> + Send + Sync + 'static,
{
    let least = match range.start_bound() {
        Bound::Included(&n) => n,
        Bound::Excluded(&n) => n + 1,
        Bound::Unbounded => 0,
    };
    let most = match range.end_bound() {
        Bound::Included(&n) => Some(n),
        Bound::Excluded(&n) => Some(n - 1),
        Bound::Unbounded => None,
    };
    move |text| {
        let said = text.trim().parse::<i128>();
        let known = said.as_ref().ok().and_then(|&n| u64::try_from(n).ok());
        let fits = known.filter(|n| *n >= least && most.is_none_or(|most| *n <= most));
        fits.and_then(|n| T::try_from(n).ok()).ok_or_else(|| match (said, most) {
            (Ok(_), Some(most)) => {
                format!("must be between {} and {}", HumanCount(least), HumanCount(most))
            }
            (Ok(n), None) if n < i128::from(least) => format!("must be at least {least}"),
            (Ok(_), None) => "is too large".into(),
            (Err(_), Some(most)) => format!(
                "must be a whole number between {} and {}",
                HumanCount(least),
                HumanCount(most)
            ),
            (Err(_), None) => format!("must be a whole number of at least {least}"),
        })
    }
}

/// Parses a number, for clap; the command checks its range.
pub fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| "must be a number".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_out_of_range_is_refused_by_the_range_in_words() {
        let refused = |text: &str| count::<u64>(1..)(text).unwrap_err();
        assert_eq!(refused("0"), "must be at least 1");
        assert_eq!(refused("-1"), "must be at least 1");
        assert_eq!(refused("1e3"), "must be a whole number of at least 1");
        assert_eq!(refused("99999999999999999999"), "is too large");
        let refused = |text: &str| count::<usize>(20..=10_000)(text).unwrap_err();
        assert_eq!(refused("10"), "must be between 20 and 10,000");
        assert_eq!(refused("ten"), "must be a whole number between 20 and 10,000");
        assert_eq!([1, 7].map(|n| count::<u64>(1..=7)(&format!("{n}"))), [Ok(1), Ok(7)]);
        assert_eq!(count::<u8>(..)("300"), Err("is too large".into()));
    }

    #[test]
    fn a_number_is_any_that_rust_can_read() {
        assert_eq!(number::<f64>("-1"), Ok(-1.0));
        assert_eq!(number::<f32>("warm"), Err("must be a number".into()));
    }
}
