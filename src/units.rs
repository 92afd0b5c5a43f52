//! Human-readable times, sizes and rates.

use indicatif::HumanCount;
use std::time::Duration;

/// Formats an estimated time: "about 40 seconds", "about 12 minutes", "about 5.5 hours", "about 3
/// days", "about 7 weeks", "about a year".
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // A month is a twelfth of a year.
    const UNITS: [(&str, &str, f64); 7] = [
        ("a second", "seconds", 1.0),
        ("a minute", "minutes", 60.0),
        ("an hour", "hours", 3600.0),
        ("a day", "days", 86_400.0),
        ("a week", "weeks", 604_800.0),
        ("a month", "months", 2_629_800.0),
        ("a year", "years", 31_557_600.0),
    ];
    // Seconds are used below 90 of them; any other unit from 0.95 of it on, weeks and months from
    // 1.9 on.
    let from = |(_, name, unit): &(&str, &str, f64)| {
        unit * if matches!(*name, "weeks" | "months") { 1.9 } else { 0.95 }
    };
    let of_seconds = seconds < 90.0;
    let (one, many, unit) = match of_seconds {
        true => UNITS[0],
        false => *UNITS.iter().rev().find(|u| seconds >= from(u)).unwrap_or(&UNITS[1]),
    };
    let n = seconds / unit;
    // Small counts are rounded to halves.
    let n = if n < 9.75 && !of_seconds { (2.0 * n).round() / 2.0 } else { n.round() };
    match n {
        1.0 => format!("about {one}"),
        n if n < 1.0 => format!("less than {one}"),
        n if n.fract() == 0.0 => format!("about {} {many}", grouped(n as u64)),
        n => format!("about {n} {many}"),
    }
}

/// Formats a size in bytes: "51.2 MB".
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Formats a size in bytes: "35 MiB", "7.1 GiB".
pub fn bytes(n: f64) -> String {
    let mib = n / f64::from(1 << 20);
    match mib {
        m if m < 1.0 => "1 MiB".to_owned(),
        m if m < 1000.0 => format!("{m:.0} MiB"),
        m => format!("{:.1} GiB", m / 1024.0),
    }
}

/// Formats a rate in up to three digits, or as an integer: "0.72", "4.6", "152", "75,294".
pub fn rate(n: f64) -> String {
    match n {
        n if n < 0.0995 => format!("{n:.3}"),
        n if n < 0.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => grouped(n.round() as u64),
    }
}

/// Formats an integer with thousands separators: "1,280,000".
pub fn grouped(n: u64) -> String {
    HumanCount(n).to_string()
}

/// Formats `value` with one decimal place, without the sign of a negative value that rounds to 0.
pub fn tenths(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.as_str() {
        "-0.0" => "0.0".into(),
        _ => text,
    }
}

/// Counts things whose plural ends in s: "1 test image", "1,280,000 test images".
pub fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(n as u64), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_rounds_to_zero_has_no_sign() {
        assert_eq!([-0.04, 0.0, -0.06, 12.34].map(tenths), ["0.0", "0.0", "-0.1", "12.3"]);
    }

    #[test]
    fn times_are_shown_in_the_natural_unit() {
        let cases = [
            (0.2, "less than a second"),
            (1.2, "about a second"),
            (55.4, "about 55 seconds"),
            (89.0, "about 89 seconds"),
            (100.0, "about 1.5 minutes"),
            (3.0 * 60.0, "about 3 minutes"),
            (12.4 * 60.0, "about 12 minutes"),
            (3500.0, "about an hour"),
            (5.6 * 3600.0, "about 5.5 hours"),
            (17.2 * 3600.0, "about 17 hours"),
            (24.1 * 3600.0, "about a day"),
            (10.0 * 86_400.0, "about 10 days"),
            (21.0 * 86_400.0, "about 3 weeks"),
            (150.0 * 86_400.0, "about 5 months"),
            (350.0 * 86_400.0, "about a year"),
            (1.4 * 365.25 * 86_400.0, "about 1.5 years"),
            (2000.0 * 365.25 * 86_400.0, "about 2,000 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(about(Duration::from_secs_f64(seconds)), words, "{seconds} s");
        }
        assert_eq!([1, 2000].map(|n| counted(n, "image")), ["1 image", "2,000 images"]);
        assert_eq!([0.004, 4.58, 152.3, 999.6].map(rate), ["0.004", "4.6", "152", "1,000"]);
        assert_eq!([3e5, 36.5e6, 7.6e9].map(bytes), ["1 MiB", "35 MiB", "7.1 GiB"]);
    }
}
