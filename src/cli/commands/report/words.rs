//! Numbers and sentences as a report words them.

use serde_json::Value;

/// Formats a percentage as "41.2 %", or returns nothing.
pub fn per_cent(value: &Value) -> String {
    value.as_f64().map_or(String::new(), |v| format!("{v:.1} %"))
}

/// Formats a score as "41.2 % ± 0.3", with the spread if there is one.
pub fn scored(value: &Value, spread: &Value) -> String {
    match spread.as_f64() {
        Some(spread) if spread > 0.0 => format!("{} ± {spread:.1}", per_cent(value)),
        _ => per_cent(value),
    }
}

/// Adds a capital letter and a full stop; a symbol such as z stays as it is.
pub fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    match rest.chars().next() {
        Some(next) if next.is_alphabetic() => format!("{}{rest}.", first.to_uppercase()),
        _ => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_start_with_a_capital_letter_but_symbols_stay() {
        assert_eq!(sentence("warning: z has collapsed"), "Warning: z has collapsed.");
        assert_eq!(sentence("z has an effective rank of 3"), "z has an effective rank of 3.");
        assert_eq!(sentence("x"), "x.");
    }
}
