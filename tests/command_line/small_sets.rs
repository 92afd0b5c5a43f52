//! Every command on a folder of a few images: no panics, no meaningless numbers, and error messages
//! that refer to that folder.

use crate::common::program::{fails, json, soda, succeeds, text, train};
use serde_json::{Value, json as value};
use std::path::Path;
use std::process::Output;

/// Writes `counts` images of each class to `folder/name`: noise in the class's colour.
fn pictures(folder: &Path, name: &str, counts: &[(&str, u32)]) {
    for (number, (class, count)) in counts.iter().enumerate() {
        let place = folder.join(name).join(class);
        std::fs::create_dir_all(&place).expect("a folder");
        for i in 0..*count {
            let pixel = |x: u32, y: u32| {
                let noise = (x * 31 + y * 17 + i * 101).wrapping_mul(2_654_435_761) >> 25;
                image::Rgb([noise as u8, 128 - noise as u8, if number == 0 { 30 } else { 220 }])
            };
            image::RgbImage::from_fn(40, 36, pixel)
                .save(place.join(format!("{i:02}.png")))
                .expect("a PNG");
        }
    }
}

/// Returns a folder with tiny trained networks in r/.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(&train(folder.path(), &["--run", "r"]));
    folder
}

fn run(at: &Path, data: &str, line: &str) -> Output {
    let args: Vec<&str> =
        line.split(' ').chain(["--device", "cpu", "--run", "r", "--data", data]).collect();
    soda(at, &args)
}

#[test]
fn two_classes_of_eleven_images_in_every_command() {
    let folder = trained();
    let at = folder.path();
    pictures(at, "pets", &[("cats", 11), ("dogs", 11)]);
    let run = |line: &str| run(at, "pets", line);

    let out = succeeds(&run("probe --json p.json"));
    let report = json(&at.join("p.json"));
    assert!(
        !out.contains("top-3") && report["top3"].is_null() && report["top5_spread"].is_null(),
        "{out}"
    );
    assert!(report["top1"].is_f64() && report["epochs"] == 1000, "{report}");
    assert_eq!(report["classes"], value!(["cats", "dogs"]));
    assert_eq!(report["per_class"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&report["per_class"][1]["class"], &report["per_class"][1]["n"]),
        (&"dogs".into(), &1.into())
    );
    let verdict = &report["verdict"];
    for key in ["z", "pixels", "random_encoder", "largest_class", "standard_error"] {
        assert!(verdict[key].is_f64(), "{key} in {verdict}");
    }
    assert!(verdict["lead"]["standard_error"].is_f64(), "{verdict}");
    let sentence = verdict["sentence"].as_str().expect("a sentence");
    // Two images aren't significant.
    assert_eq!(out.lines().last(), Some(sentence));
    assert!(
        sentence.contains("these 2 classes") && sentence.contains("on 2 test images)"),
        "{sentence}"
    );
    // Cached baselines give the same verdict again; CIFAR gets none.
    succeeds(&run("probe --json p.json"));
    assert_eq!(json(&at.join("p.json"))["verdict"], *verdict);
    let bundled =
        ["probe", "--protocol", "knn", "--run", "r", "--device", "cpu", "--json", "b.json"];
    succeeds(&soda(at, &bundled));
    let bundled = json(&at.join("b.json"));
    assert_eq!(
        (&bundled["verdict"], &bundled["per_class"][9]["class"]),
        (&Value::Null, &"truck".into())
    );

    let out = succeeds(&run("probe --protocol knn --json k.json"));
    assert!(out.contains("(10 neighbours, limited to the average class size)"), "{out}");
    assert_eq!(json(&at.join("k.json"))["neighbours"], 10);
    let whitened = run("embed --split train --features backbone --whiten --out w.npy");
    succeeds(&whitened);
    assert!(
        text(&whitened.stderr).contains("warning: whitening is fitted to 20 images"),
        "{}",
        text(&whitened.stderr)
    );
    succeeds(&run("probe --protocol knn --split selection"));
    succeeds(&run("probe --protocol linear-full --fraction 0.01,1"));
    let out = succeeds(&run("health --json h.json"));
    assert!(
        json(&at.join("h.json"))["purity"]["k"] == 1 && out.contains("of the nearest neighbours"),
        "{out}"
    );
    let out = succeeds(&run("map"));
    assert!(out.contains("of the 10 nearest neighbours kept (by chance 47.6 %)"), "{out}");
    let sampled = run("sample -n 2 --json s.json");
    succeeds(&sampled);
    assert!(
        text(&sampled.stderr)
            .contains("one Gaussian instead of 10: the training set holds 20 images")
    );
    assert_eq!(json(&at.join("s.json"))["prior"]["components"], 1);
    for line in [
        "directions --classes",
        "diagnose",
        "reconstruct",
        "invert",
        "mix",
        "neighbours test:0 -k 19",
    ] {
        succeeds(&run(line));
    }
    fails(
        &run("neighbours test:0 -k 20"),
        2,
        &["-k 20", "the training set holds 20 images", "between 1 and 19"],
    );
    fails(
        &run("quality"),
        1,
        &["at least 4 images", "the training set holds 20", "the test set 2"],
    );
    fails(&run("health --k 2"), 2, &["--k 2", "the test set holds 2 images"]);
    fails(&run("reconstruct -n 3"), 2, &["-n 3", "between 1 and 2"]);
    fails(&run("directions --pca 20"), 2, &["--pca 20"]);

    // Names stay with their rows.
    succeeds(&run("embed --split test --out z.safetensors"));
    let bytes = std::fs::read(at.join("z.safetensors")).expect("the file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("metadata");
    assert_eq!(metadata["classes"], r#"["cats","dogs"]"#);
    assert_eq!(
        std::fs::read_to_string(at.join("z.safetensors.txt")).expect("names"),
        "cats/09.png\ndogs/09.png\n"
    );
}

#[test]
fn three_images_in_all_are_reported_as_such() {
    let folder = trained();
    let at = folder.path();
    pictures(at, "few/train", &[("a", 1), ("b", 1)]);
    pictures(at, "few/test", &[("a", 1)]);
    let run = |line: &str| run(at, "few", line);
    let probed = run("probe --protocol knn --json p.json");
    let out = succeeds(&probed);
    assert!(out.contains("(1 neighbour,") && out.contains("on 1 test image)"), "{out}");
    assert!(text(&probed.stderr).contains(
        "1 of 2 classes have no evaluation images, so the scores say nothing about them: b"
    ));
    assert_eq!(
        json(&at.join("p.json"))["per_class"][1],
        value!({ "class": "b", "n": 0, "top1": null })
    );
    fails(&run("probe --split selection"), 1, &["the training set holds 2 images", "--split test"]);
    fails(&run("map"), 2, &["at least 10 images", "the training set holds 2, the test set 1"]);
    fails(&run("health"), 1, &["the test set holds 1"]);
    fails(&run("diagnose"), 1, &["the test set holds 1"]);
    fails(&run("mix"), 2, &["the test set holds one"]);
    for line in [
        "sample -n 1",
        "reconstruct",
        "invert",
        "neighbours train:0",
        "directions --classes",
        "mix train:0 --with train:1",
    ] {
        succeeds(&run(line));
    }
}
