//! The scores of z, compared with the baselines.

use super::comparison::Comparison;
use super::subcommands::Finished;
use super::words::scored;
use indicatif::HumanCount;
use serde_json::Value;
use soda::report::html::{Section, Table};

/// A row of the table.
struct Scored<'a> {
    protocol: &'a str,
    features: &'static str,
    n_train: u64,
    n_test: u64,
    /// Top-1, top-3 and top-5.
    top: [String; 3],
}

/// Builds the section with the table of scores and its summary in words.
pub fn section(probes: &[(&'static str, Finished)]) -> Section {
    let mut section =
        Section { id: "worth".into(), title: "Scores of z".into(), ..Default::default() };
    let mut rows = Vec::new();
    for (protocol, finished) in probes {
        match &finished.result {
            Ok(v) => {
                section
                    .words
                    .extend(Comparison::pixels(v).map(|comparison| comparison.in_words(protocol)));
                rows.extend(rows_of(protocol, v));
                section.commands.push(finished.typed.clone());
            }
            Err(reason) => section.missing.push(format!("{}: {reason}", finished.typed)),
        }
    }
    let (table, same) = table(&rows);
    section.words.push(format!(
        "Frozen features, evaluated once on the test set, compared with raw pixels and an \
         untrained encoder under the same protocol. Mean and standard deviation are over the \
         probe's seeds, if it has any; the encoder was trained once.{same}"
    ));
    section.tables.push(table);
    section
}

/// Reads the rows from one probe's JSON.
fn rows_of<'a>(protocol: &'a str, v: &Value) -> Vec<Scored<'a>> {
    let baselines = &v["baselines"];
    let features = [
        ("z", v),
        ("raw pixels", &baselines["pixels"]),
        ("untrained encoder", &baselines["random_encoder"]),
    ];
    let row = |(features, row): (&'static str, &Value)| Scored {
        protocol,
        features,
        n_train: row["n_train"].as_u64().unwrap_or(0),
        n_test: v["n_test"].as_u64().unwrap_or(0),
        top: ["top1", "top3", "top5"].map(|k| scored(&row[k], &row[format!("{k}_spread")])),
    };
    features.into_iter().filter(|(_, row)| row["top1"].is_number()).map(row).collect()
}

/// Builds the table. Columns with the same value in every row are replaced by a sentence.
fn table(rows: &[Scored]) -> (Table, String) {
    let head = ["protocol", "features", "top-1", "top-3", "top-5"].map(str::to_owned).to_vec();
    let cells =
        |r: &Scored| [vec![r.protocol.to_owned(), r.features.to_owned()], r.top.to_vec()].concat();
    let mut table = Table { head, rows: rows.iter().map(cells).collect() };
    let Some(first) = rows.first() else { return (table, String::new()) };
    let mut same = Vec::new();
    let mut column = |name: &str, words: &str, of: fn(&Scored) -> u64| {
        if rows.iter().all(|r| of(r) == of(first)) {
            same.push(words.replace('#', &HumanCount(of(first)).to_string()));
        } else {
            table.head.push(name.into());
            table
                .rows
                .iter_mut()
                .zip(rows)
                .for_each(|(cells, r)| cells.push(HumanCount(of(r)).to_string()));
        }
    };
    column("training labels", "is trained on # labels", |r| r.n_train);
    column("test images", "is scored on # test images", |r| r.n_test);
    let same =
        if same.is_empty() { String::new() } else { format!(" Each row {}.", same.join(" and ")) };
    (table, same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(labels: [u64; 2]) -> Vec<Scored<'static>> {
        let of = |n_train: u64| json!({ "top1": 50.0, "top1_spread": 0.3, "top3": 70.0, "top5": 80.0, "n_train": n_train });
        let mut v = of(labels[0]);
        v["n_test"] = json!(1000);
        v["baselines"] = json!({ "pixels": of(labels[1]) });
        rows_of("linear", &v)
    }

    #[test]
    fn columns_that_are_the_same_in_every_row_become_a_sentence() {
        let (shown, words) = table(&rows([5000, 5000]));
        assert_eq!(shown.head, ["protocol", "features", "top-1", "top-3", "top-5"]);
        assert_eq!(shown.rows[1], ["linear", "raw pixels", "50.0 % ± 0.3", "70.0 %", "80.0 %"]);
        assert_eq!(
            words,
            " Each row is trained on 5,000 labels and is scored on 1,000 test images."
        );
        // Values that differ are a column after the scores.
        let (shown, words) = table(&rows([5000, 10_000]));
        assert_eq!(shown.head[5..], ["training labels"]);
        assert_eq!((shown.rows[0][5].as_str(), shown.rows[1][5].as_str()), ("5,000", "10,000"));
        assert_eq!(words, " Each row is scored on 1,000 test images.");
        assert!(table(&[]).0.rows.is_empty());
    }
}
