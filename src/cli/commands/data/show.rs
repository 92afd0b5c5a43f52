//! The output of `soda data show`.

use serde_json::{Value, json};
use soda::data::Survey;
use soda::data::listing::LeftOut;
use soda::units::grouped;
use std::fmt::Write;

/// The number of classes listed one by one; the rest are only counted.
const LISTED: usize = 100;
/// The number of example names after a count.
const NAMED: usize = 3;

/// Formats the survey as text, one line per item.
pub fn to_text(survey: &Survey) -> String {
    let (inventory, [train, test]) = (&survey.inventory, survey.images);
    let mut text = format!("{}, {}\n", survey.name, survey.origin);
    let mut line =
        |name: &str, what: String| writeln!(text, "  {name:<11} {what}").expect("text grows");
    if !inventory.reading.is_empty() {
        line("read as", inventory.reading.clone());
    }
    let count = |n: usize| grouped(n as u64);
    line("images", format!("{} training, {} test", count(train), count(test)));
    line("classes", survey.classes.len().to_string());
    let width = survey
        .classes
        .iter()
        .take(LISTED)
        .map(|(class, _)| class.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    for (class, [train, test]) in survey.classes.iter().take(LISTED) {
        line("", format!("{class:<width$}  {:>7} {:>7}", count(*train), count(*test)));
    }
    if survey.classes.len() > LISTED {
        line("", format!("and {} more", survey.classes.len() - LISTED));
    }
    let sizes: Vec<String> = inventory
        .sizes
        .iter()
        .map(|s| format!("{} to {}: {}", s.from, 2 * s.from - 1, count(s.count)))
        .collect();
    if !sizes.is_empty() {
        line("sizes", format!("shorter side in pixels {}", sizes.join(", ")));
    }
    for kind in &inventory.left_out {
        line("left out", left_out(kind));
    }
    if inventory.in_both > 0 {
        let pairs: Vec<String> =
            inventory.in_both_first.iter().take(NAMED).map(|[a, b]| format!("{a} = {b}")).collect();
        let more = if inventory.in_both > pairs.len() { ", .." } else { "" };
        let what = match inventory.in_both {
            1 => "1 test image is also a training image".into(),
            n => format!("{} test images are also training images", count(n)),
        };
        line("in both", format!("{what}: {}{more}", pairs.join(", ")));
    }
    line("digest", survey.sha256.clone());
    text.trim_end().to_owned()
}

fn left_out(kind: &LeftOut) -> String {
    let names: Vec<&str> = kind.first.iter().take(NAMED).map(String::as_str).collect();
    let more = if kind.count > names.len() { ", .." } else { "" };
    format!("{}: {} ({}{more})", kind.what, grouped(kind.count as u64), names.join(", "))
}

/// Formats the survey as JSON.
pub fn to_json(survey: &Survey) -> Value {
    let class = |(name, [train, test]): &(String, [usize; 2])| json!({ "name": name, "train": train, "test": test });
    let [train, test] = survey.images;
    json!({
        "name": survey.name, "origin": survey.origin, "sha256": survey.sha256, "train": train, "test": test,
        "classes": survey.classes.iter().map(class).collect::<Vec<_>>(),
        "inventory": survey.inventory,
    })
}
