//! The section on how to reproduce the run and the report.

use super::subcommands::typed;
use super::training;
use crate::cli::args::Common;
use crate::cli::args::images::flags;
use crate::cli::args::weights;
use serde_json::Value;
use soda::config::LrSchedule;
use soda::error::Result;
use soda::model::weights::WeightsFile;
use soda::report::html::{Listing, Section, Table};
use soda::run_dir::{RunDir, Start};
use soda::shell::{continued, quoted, retyped};
use soda::units::grouped;

/// Builds the section on how to reproduce the run and the report.
pub fn repeat(run: &RunDir, weights: &WeightsFile, common: &Common) -> Result<Section> {
    let mut rows = vec![
        vec!["weights".to_owned(), weights.path.display().to_string()],
        vec!["their SHA-256".to_owned(), weights.sha256.clone()],
    ];
    let starts = run.read_starts();
    if let Some(start) = starts.first() {
        let from = training::beginning(start).zip(start.from.as_ref());
        rows.extend(from.map(|(name, sha256)| {
            vec!["started from".into(), format!("{name}, SHA-256 {sha256:.12}..")]
        }));
    }
    for (i, start) in starts.iter().enumerate() {
        let machine = |key: &str| match &start.machine[key] {
            Value::String(text) => text.clone(),
            Value::Null => "unknown".into(),
            value => value.to_string(),
        };
        let commit = start.commit.as_ref().map_or(String::new(), |c| format!(", commit {c}"));
        rows.push(vec![
            (if i == 0 { "training started" } else { "training resumed" }).to_owned(),
            format!(
                "{} after step {}: soda {}{commit} on {} ({}); {}, {} threads, {} {}",
                start.time,
                start.step,
                start.version,
                start.adapter,
                start.device,
                machine("cpu"),
                machine("threads"),
                machine("os"),
                machine("arch")
            ),
        ]);
        rows.push(vec![
            String::new(),
            format!(
                "{}{}, {} training images, SHA-256 {}",
                start.data,
                start.data_location.as_ref().map_or(String::new(), |place| format!(" ({place})")),
                grouped(start.images as u64),
                start.data_sha256
            ),
        ]);
    }
    let mut commands: Vec<String> = starts.iter().map(|start| retyped(&start.command)).collect();
    commands.push(typed("report", &run.path, common));
    // Resumed with another recipe, the run is no longer what its last recipe alone describes.
    let changed = starts.iter().skip(1).find(|start| {
        start.command.iter().any(|word| word == "--allow-change") || weights::cools_down(start)
    });
    let words = match changed {
        Some(start) => format!(
            "The recipe changed after step {}: only the commands below, in this order, repeat the \
             training. The recipe below is that of its last step.",
            grouped(start.step)
        ),
        None => format!(
            "With the recipe below saved as recipe.toml, `{}` repeats the training. On one device, \
             the same seed and data give the same results{}.",
            from_recipe(&starts),
            match (weights.config.train.lr_schedule, weights.config.train.cooldown > 0.0) {
                (LrSchedule::Constant, false) => "",
                _ =>
                    ", unless a time limit ended the run: the learning rate then depended on the \
                     clock",
            }
        ),
    };
    Ok(Section {
        id: "repeat".into(),
        title: "How to reproduce it".into(),
        words: vec![words],
        tables: vec![Table { head: Vec::new(), rows }],
        commands,
        listing: Some(Listing { title: "The recipe".into(), text: weights.config.to_toml() }),
        ..Default::default()
    })
}

/// Returns the command that trains a saved recipe as a run with these `starts` was trained.
fn from_recipe(starts: &[Start]) -> String {
    let from = starts
        .first()
        .and_then(weights::began_with)
        .map_or(String::new(), |from| format!(" --from {}", quoted(from)));
    // Only a run with --continue starts after the last step of its starting weights.
    let on = if !from.is_empty() && starts[0].step > 0 { " --continue" } else { "" };
    let data = starts.last().map_or(String::new(), |start| {
        let place = start.data_location.iter().flat_map(|place| ["--data".into(), place.into()]);
        continued(&place.chain(flags(&start.data_options)).collect::<Vec<_>>())
    });
    format!("soda train --config recipe.toml{from}{on}{data}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_recipe_is_trained_from_the_same_weights_on_the_same_data() {
        let start = |more: Value| -> Start {
            let mut start = json!({
                "time": "", "step": 0, "command": [], "version": "", "commit": null, "device": "cpu", "adapter": "a", "machine": {},
                "data": "CIFAR-10", "data_sha256": "ab", "images": 9,
            });
            let Value::Object(more) = more else { panic!("no object") };
            start.as_object_mut().expect("an object").extend(more);
            serde_json::from_value(start).expect("a start")
        };
        assert_eq!(from_recipe(&[start(json!({}))]), "soda train --config recipe.toml");
        let first = start(
            json!({ "from": "cd", "from_name": "/it's/w.safetensors", "data_location": "/old data" }),
        );
        let command = from_recipe(&[
            first,
            start(json!({ "data_location": "/my data", "data_options": { "split_ratio": 0.2 } })),
        ]);
        assert_eq!(
            shlex::split(&command).expect("whole quotes")[4..],
            ["--from", "/it's/w.safetensors", "--data", "/my data", "--split-ratio", "0.2"]
        );
        let on = from_recipe(&[start(json!({ "from": "cd", "from_name": "shipped", "step": 40 }))]);
        assert_eq!(on, "soda train --config recipe.toml --from shipped --continue");
        // If the record of the first start is lost, the first one left is a later start.
        assert_eq!(from_recipe(&[start(json!({ "step": 40 }))]), "soda train --config recipe.toml");
    }
}
