//! What a probe says of each class, by its name.

use crate::data::Dataset;
use crate::eval::probe::{Probed, Protocol};
use serde_json::{Value, json};

/// The labels of the images that judge.
pub fn judges(protocol: &Protocol, data: &Dataset) -> Vec<u16> {
    let images = protocol.judges(data);
    protocol.indices(data).1.into_iter().map(|i| images.label(i)).collect()
}

/// Names in a warning at most.
const NAMED: usize = 10;

/// That some classes have no image that judges, if that is so.
pub fn unjudged(data: &Dataset, judges: &[u16]) -> Option<String> {
    let mut judged = vec![false; data.classes.len()];
    judges.iter().for_each(|&label| judged[usize::from(label)] = true);
    let without: Vec<&str> =
        data.classes.iter().zip(&judged).filter(|(_, judged)| !**judged).map(|(name, _)| name.as_str()).collect();
    let named = without[..without.len().min(NAMED)].join(", ");
    let more = if without.len() > NAMED { ", .." } else { "" };
    (!without.is_empty()).then(|| {
        format!(
            "warning: {} of {} classes have no images that judge, so the scores say nothing about them: {named}{more}",
            without.len(),
            data.classes.len()
        )
    })
}

/// The classes by name, and of each how many images judge and how many of them are found, in per cent.
pub fn by_class(data: &Dataset, judges: &[u16], probed: &Probed) -> Value {
    let mut found = vec![(0usize, 0.0f64); data.classes.len()];
    for (&label, &right) in judges.iter().zip(&probed.right) {
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
    use crate::eval::method::Method;
    use crate::eval::probe::Split;

    #[test]
    fn classes_are_told_by_name_and_those_that_nothing_judges_are_named() {
        let mut data = crate::data::bundled().expect("the subset");
        data.test = std::sync::Arc::new(data.test.select(&[0, 1, 2, 3]));
        let protocol = Protocol::new(Method::Knn, Split::Test, 1);
        let judges = judges(&protocol, &data);
        assert_eq!(judges, data.test.labels());
        let line = unjudged(&data, &judges).expect("six classes or more");
        let here = &data.classes[usize::from(judges[0])];
        assert!(line.starts_with("warning: ") && line.contains(" of 10 classes") && !line.contains(here), "{line}");
        assert_eq!(unjudged(&data, &(0..10).collect::<Vec<u16>>()), None);

        let point = crate::eval::probe::Point {
            fraction: 1.0,
            n_train: 1,
            runs: 2,
            neighbours: None,
            score: serde_json::from_value(json!({ "top1": 1.0, "top1_spread": 0.0 })).expect("a score"),
        };
        let probed = Probed { point, curve: Vec::new(), right: vec![1.0, 0.5, 0.0, 0.0] };
        let told = by_class(&data, &[0, 0, 9, 0], &probed);
        assert_eq!(told["classes"][9], "truck");
        assert_eq!(told["per_class"][0], json!({ "class": "airplane", "n": 3, "top1": 50.0 }));
        assert_eq!(told["per_class"][9]["top1"], 0.0);
        assert_eq!(told["per_class"][1], json!({ "class": "automobile", "n": 0, "top1": null }));
    }
}
