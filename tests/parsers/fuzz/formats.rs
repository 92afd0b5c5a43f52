//! Targets for data sets: the input is opened as a user's data is, and every image is read.

use super::engine::Outcome;
use super::format_seeds::CIFAR_PYTHON;
use super::layers::unframe;
use super::parsers::write;
use soda::data::{self, Options, bytes_of};
use soda::error::Error;
use std::path::Path;

/// The side in pixels; no seed has it, so that all images are resampled.
const SIDE: usize = 12;
/// Few images are enough for a test split, and one unreadable image doesn't hide the others.
const OPTIONS: Options = Options { layout: None, split_ratio: Some(0.5), skip_unreadable: true };

/// Returns the message of `error`, one sentence or a list of lines, and checks that it names
/// `place`.
fn sentence(error: &Error, place: &Path) -> String {
    let (sentence, place) = (error.to_string(), place.display().to_string());
    assert!(sentence.contains(&place), "the error doesn't name {place}: {sentence}");
    for line in sentence.split('\n') {
        assert!(line.chars().count() <= 2010, "an error with a line of {} characters", line.len());
        assert!(!line.chars().any(char::is_control), "an error with control characters");
    }
    // The folder's name differs every time.
    sentence.replace(&place, "")
}

fn opened(place: &Path) -> Outcome {
    let data = data::open(Some(place), SIDE, &OPTIONS).map_err(|e| sentence(&e, place))?;
    for images in [&data.train, &data.test] {
        assert!(!images.is_empty() && images.side() == SIDE);
        for i in 0..images.len() {
            assert!(
                usize::from(images.label(i)) < data.classes.len().max(1),
                "a label without a class"
            );
            images.name(i);
            let pixels = images.image(i).map_err(|e| sentence(&e, place))?;
            assert_eq!(pixels.len(), bytes_of(SIDE));
        }
    }
    data.describe();
    Ok(format!("{} {}", data.inventory.reading, data.classes.is_empty()))
}

pub fn parquet(input: &[u8], folder: &Path) -> Outcome {
    opened(&write(folder, "s.parquet", input))
}

pub fn tar(input: &[u8], folder: &Path) -> Outcome {
    opened(&write(
        folder,
        if input.starts_with(&[0x1f, 0x8b]) { "s.tar.gz" } else { "s.tar" },
        input,
    ))
}

/// A table after a line with its file extension, next to a.png, b.png and the empty folder c.
pub fn table(input: &[u8], folder: &Path) -> Outcome {
    let place = folder.join("table");
    if !place.exists() {
        std::fs::create_dir_all(place.join("c")).expect("a folder");
        ["a.png", "b.png"]
            .iter()
            .enumerate()
            .for_each(|(i, name)| drop(write(&place, name, &super::format_seeds::png(i))));
    }
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let ending = [".csv", ".tsv", ".json", ".jsonl"]
        .into_iter()
        .find(|ending| ending.as_bytes() == &input[..line]);
    let table = input.get(line + 1..).unwrap_or_default();
    opened(&write(&place, &format!("t{}", ending.unwrap_or(".csv")), table))
}

/// Writes the files of a frame to a folder, except for empty ones.
fn files(folder: &Path, names: &[&str], input: &[u8]) {
    let files = unframe(input);
    for (i, name) in names.iter().enumerate() {
        match files.get(i) {
            Some(bytes) if !bytes.is_empty() => drop(write(folder, name, bytes)),
            _ => drop(std::fs::remove_file(folder.join(name))),
        }
    }
}

/// A training batch, the test batch and the class names; the other batches are valid.
pub fn cifar_python(input: &[u8], folder: &Path) -> Outcome {
    let place = folder.join("cifar-10-batches-py");
    if !place.exists() {
        std::fs::create_dir(&place).expect("a folder");
        CIFAR_PYTHON.iter().for_each(|(name, bytes)| drop(write(&place, name, bytes)));
    }
    files(&place, &["data_batch_1", "test_batch", "batches.meta"], input);
    opened(&place)
}

pub fn stl10(input: &[u8], folder: &Path) -> Outcome {
    let place = folder.join("stl10_binary");
    std::fs::create_dir_all(&place).expect("a folder");
    let names = [
        "train_X.bin",
        "train_y.bin",
        "test_X.bin",
        "test_y.bin",
        "class_names.txt",
        "unlabeled_X.bin",
    ];
    files(&place, &names, input);
    opened(&place)
}

pub fn pack(input: &[u8], folder: &Path) -> Outcome {
    let place = write(folder, "s.pack", input);
    let outcome = opened(&place)?;
    // The error may say that the file was changed.
    let whole = data::verify(Some(&place), &OPTIONS).map_err(|e| sentence(&e, &place));
    Ok(format!("{outcome} {}", whole.is_ok()))
}
