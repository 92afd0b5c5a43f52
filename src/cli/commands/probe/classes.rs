//! A probe's results per class.

use serde_json::{Value, json};
use soda::data::Dataset;
use soda::eval::probe::{Probed, Protocol};

/// Returns the labels of the evaluation images.
pub fn evaluation_labels(protocol: &Protocol, data: &Dataset) -> Vec<u16> {
    let images = protocol.judges(data);
    protocol.indices(data).1.into_iter().map(|i| images.label(i)).collect()
}

/// The largest number of classes named in a warning.
const NAMED: usize = 10;

/// Returns a warning if some classes have no evaluation images.
pub fn without_images(data: &Dataset, labels: &[u16]) -> Option<String> {
    let mut present = vec![false; data.classes.len()];
    labels.iter().for_each(|&label| present[usize::from(label)] = true);
    let without: Vec<&str> = data
        .classes
        .iter()
        .zip(&present)
        .filter(|(_, present)| !**present)
        .map(|(name, _)| name.as_str())
        .collect();
    let named = without[..without.len().min(NAMED)].join(", ");
    let more = if without.len() > NAMED { ", .." } else { "" };
    (!without.is_empty()).then(|| {
        format!(
            "warning: {} of {} classes have no evaluation images, so the scores say nothing about \
             them: {named}{more}",
            without.len(),
            data.classes.len()
        )
    })
}

/// Returns the classes by name, each with the number of its evaluation images and the per cent of
/// them that are classified correctly.
pub fn by_class(data: &Dataset, labels: &[u16], probed: &Probed) -> Value {
    let mut found = vec![(0usize, 0.0f64); data.classes.len()];
    for (&label, &right) in labels.iter().zip(&probed.right) {
        let (n, sum) = &mut found[usize::from(label)];
        (*n, *sum) = (*n + 1, *sum + f64::from(right));
    }
    let one = |(class, (n, sum)): (&String, (usize, f64))| json!({ "class": class, "n": n, "top1": (n > 0).then(|| 100.0 * sum / n as f64) });
    let per_class: Vec<Value> = data.classes.iter().zip(found).map(one).collect();
    json!({ "classes": data.classes, "per_class": per_class })
}

#[cfg(test)]
mod tests {
    use super::*;
    use soda::data::inventory::Inventory;
    use soda::data::{Images, Options, bytes_of};
    use soda::eval::method::Method;
    use soda::eval::probe::Split;
    use std::sync::Arc;

    #[test]
    fn classes_are_scored_by_name_and_those_without_evaluation_images_are_listed() {
        let images = |labels: Vec<u16>| {
            Arc::new(Images::new(8, vec![0; labels.len() * bytes_of(8)], labels))
        };
        let data = Dataset {
            name: String::new(),
            origin: String::new(),
            train: images(vec![0, 1, 2]),
            test: images(vec![2, 0, 2]),
            resampled_from: None,
            classes: ["cats", "dogs", "owls"].map(str::to_owned).to_vec(),
            sha256: String::new(),
            inventory: Inventory::default(),
            options: Options::default(),
        };
        let protocol = Protocol::new(Method::Knn, Split::Test, 1);
        let labels = evaluation_labels(&protocol, &data);
        assert_eq!(labels, data.test.labels());
        let line = without_images(&data, &labels).expect("one without");
        assert!(line.starts_with("warning: 1 of 3 classes") && line.ends_with(": dogs"), "{line}");
        assert_eq!(without_images(&data, &[2, 1, 0]), None);

        let point = soda::eval::probe::Point {
            fraction: 1.0,
            n_train: 1,
            runs: 2,
            neighbours: None,
            score: serde_json::from_value(json!({ "top1": 1.0, "top1_spread": 0.0 }))
                .expect("a score"),
        };
        let probed = Probed { point, curve: Vec::new(), right: vec![1.0, 0.5, 0.0, 0.0] };
        let found = by_class(&data, &[0, 0, 2, 0], &probed);
        assert_eq!(found["classes"], json!(["cats", "dogs", "owls"]));
        assert_eq!(found["per_class"][0], json!({ "class": "cats", "n": 3, "top1": 50.0 }));
        assert_eq!(found["per_class"][1], json!({ "class": "dogs", "n": 0, "top1": null }));
        assert_eq!(found["per_class"][2]["top1"], 0.0);
    }
}
