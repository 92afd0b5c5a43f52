//! Features from the program: what `embed` writes, and one clear error message for each mistake.

use crate::common::program::{fails, json, program, soda, succeeds, train};
use crate::common::run::wait_for;
use soda::eval::features::Features;
use soda::eval::table;
use soda::eval::whitening::Whitening;
use soda::model::weights::WeightsFile;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;
use tempfile::TempDir;

/// A run of a few steps, and a folder of images: the first bundled test images and some unreadable
/// files.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(&train(folder.path(), &["--run", "run"]));
    let images = soda::data::bundled().expect("the bundled images").test;
    for i in 0..PICTURES {
        let pixel = |x, y| {
            image::Rgb(
                [0, 1, 2]
                    .map(|c: usize| images.image(i).unwrap()[c * 1024 + (y * 32 + x) as usize]),
            )
        };
        let path = folder.path().join(format!("pictures/{}/{i:04}.png", ["a", "b/deep"][i % 2]));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        image::RgbImage::from_fn(32, 32, pixel).save(path).expect("a PNG");
    }
    std::fs::write(folder.path().join("pictures/a/text.jpg"), "no image").expect("a file");
    std::fs::write(folder.path().join("pictures/b/deep/0001.tif"), "of another kind")
        .expect("a file");
    folder
});

/// More images than a batch.
const PICTURES: usize = 150;

fn at(name: &str) -> std::path::PathBuf {
    FOLDER.path().join(name)
}

fn run(args: &[&str]) -> std::process::Output {
    soda(FOLDER.path(), &[args, &["--run", "run", "--device", "cpu"]].concat())
}

fn read(features: &str, labels: Option<&str>) -> Features {
    let features =
        table::read(&at(features), labels.map(at).as_deref()).unwrap_or_else(|e| panic!("{e}"));
    assert!(features.values.iter().all(|v| v.is_finite()));
    features
}

/// Checks whether rows are the same up to the order of summation in matrix products.
fn same(a: &[f32], b: &[f32]) -> bool {
    let largest = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}

#[test]
fn both_formats_hold_the_same_features_and_the_labels_of_the_set() {
    let base = ["embed", "--split", "test", "--limit", "200", "--json", "e.json"];
    let npy = [&base[..], &["--out", "new/f.npy", "--labels", "new/l.npy", "--names", "new/n.txt"]]
        .concat();
    let out = succeeds(&run(&npy));
    assert!(out.contains("200 x 8 features (z) in new/f.npy at "), "{out}");
    let report = json(&at("e.json"));
    assert_eq!(
        (&report["n"], &report["dim"], &report["features"]),
        (&200.into(), &8.into(), &"z".into())
    );
    assert_eq!((&report["data"]["split"], &report["skipped"]), (&"test".into(), &0.into()));
    assert!(report["images_per_s"].as_f64().is_some_and(|rate| rate > 0.0 && rate.is_finite()));
    let names = std::fs::read_to_string(at("new/n.txt")).expect("names");
    assert_eq!((names.lines().count(), names.lines().nth(17)), (200, Some("test:17")));

    let features = read("new/f.npy", Some("new/l.npy"));
    assert_eq!((features.rows(), features.dim), (200, 8));
    let images = soda::data::bundled().expect("the bundled images").test;
    assert!(features.labels.iter().enumerate().all(|(i, &label)| label == images.label(i)));
    succeeds(&run(&[&base[..], &["--out", "f.safetensors"]].concat()));
    assert_eq!(read("f.safetensors", None), features);

    // Other features have another length; and the training split has other images.
    succeeds(&run(
        &[&base[..], &["--out", "d.safetensors", "--features", "denoiser:up1.0@11"]].concat()
    ));
    assert_eq!(read("d.safetensors", None).dim, 16);
    succeeds(&run(&["embed", "--split", "train", "--limit", "200", "--out", "t.safetensors"]));
    assert!(!same(&read("t.safetensors", None).values, &features.values));
}

#[test]
fn image_files_have_the_features_of_the_same_images_in_the_data_set() {
    let json_of = |more: &[&str]| {
        let output =
            run(&[&["embed", "pictures", "--out", "p.npy", "--json", "p.json"], more].concat());
        (succeeds(&output), json(&at("p.json")))
    };
    let (out, report) = json_of(&["--skip-unreadable"]);
    assert!(
        out.contains("150 x 8") && out.contains("; left out: images that can't be read: 2"),
        "{out}"
    );
    assert_eq!(
        (&report["n"], &report["skipped"], &report["names"]),
        (&150.into(), &2.into(), &"p.npy.txt".into())
    );
    assert!(report["skipped_first"][0].as_str().is_some_and(|why| why.contains("text.jpg")));

    succeeds(&run(&["embed", "--split", "test", "--limit", "150", "--out", "s.safetensors"]));
    let set = read("s.safetensors", None);
    table::write_labels(&at("zeros.npy"), &[0; PICTURES]).expect("labels");
    let pictures = read("p.npy", Some("zeros.npy"));
    let names = std::fs::read_to_string(at("p.npy.txt")).expect("names");
    let mut order: Vec<usize> = Vec::new();
    for (row, name) in names.lines().enumerate() {
        let i: usize = Path::new(name)
            .file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.parse().ok())
            .expect("a number");
        let of = |features: &Features, i: usize| features.values[i * 8..][..8].to_vec();
        assert!(same(&of(&pictures, row), &of(&set, i)), "{name}");
        assert!(
            !same(&of(&pictures, row), &of(&set, (i + 1) % PICTURES)),
            "{name} against another image"
        );
        order.push(i);
    }
    assert_eq!(order.first_chunk(), Some(&[0, 2, 4]));
    order.sort_unstable();
    assert_eq!(order, (0..PICTURES).collect::<Vec<_>>());

    // With --limit, files beyond the limit needn't be readable.
    let (out, report) = json_of(&["--limit", "3", "--names", "three.txt"]);
    assert!(out.contains("3 x 8") && !out.contains("left out"), "{out}");
    assert_eq!(report["skipped"], 0);
    assert_eq!(std::fs::read_to_string(at("three.txt")).expect("names").lines().count(), 3);
}

#[test]
fn images_are_read_with_any_number_of_threads() {
    table::write_labels(&at("any.npy"), &[0; PICTURES]).expect("labels");
    let values = ["1", "2", "5"].map(|threads| {
        let out = format!("threads_{threads}.npy");
        let args = ["embed", "pictures", "--skip-unreadable", "--run", "run", "--device", "cpu"];
        let mut child = program(FOLDER.path())
            .env("RAYON_NUM_THREADS", threads)
            .args([&args[..], &["--out", &out]].concat())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        // It would wait for ever if the one thread that reads images also waited for them.
        wait_for(&format!("z by {threads} threads"), || {
            child.try_wait().expect("a child").is_some_and(|status| status.success())
        });
        read(&out, Some("any.npy")).values
    });
    assert_eq!(values[0].len(), PICTURES * 8);
    assert!(values[1..].iter().all(|other| same(&values[0], other)));
}

#[test]
fn mistakes_are_reported_and_leave_nothing_behind() {
    let before = std::fs::read_dir(at("pictures/a")).expect("a folder").count();
    let embed = |more: &[&str]| {
        run(&[&["embed", "--out", "pictures/a/x.npy", "--names", "pictures/a/x.txt"], more]
            .concat())
    };
    // All unreadable files are listed, not only the first.
    let list = [
        "2 of 152 images can't be read",
        "pictures/a/text.jpg",
        "pictures/b/deep/0001.tif",
        "--skip-unreadable",
    ];
    fails(&embed(&["pictures"]), 1, &list);
    fails(
        &embed(&["pictures/a/text.jpg", "--skip-unreadable"]),
        1,
        &["one image can't be read", "text.jpg"],
    );
    std::fs::create_dir_all(at("words")).expect("a folder");
    std::fs::write(at("words/a.txt"), "x").expect("a file");
    fails(
        &embed(&["words"]),
        1,
        &["nothing to embed: there are no images, but files that are not images (.txt): 1"],
    );
    fails(&embed(&["pictures", "gone"]), 1, &["gone", "check the path"]);
    fails(&embed(&["--split", "test", "--limit", "1001"]), 2, &["--limit 1001", "1,000 images"]);
    fails(
        &embed(&["--split", "test", "--features", "denoiser:up7.0@3"]),
        2,
        &["up7.0", "down0.0, down1.0, middle, up1.0"],
    );
    fails(&embed(&["--split", "test", "--features", "denoiser:middle@1001"]), 2, &["1 to 1000"]);
    fails(
        &embed(&["--split", "test", "--labels", "l.safetensors"]),
        2,
        &["--labels l.safetensors"],
    );
    fails(
        &embed(&["--split", "test", "--labels", "pictures/a/x.npy"]),
        2,
        &["pictures/a/x.npy", "the output of both"],
    );
    fails(
        &run(&["embed", "pictures", "--out", "x.csv"]),
        2,
        &["x.csv", ".npy, .safetensors, .npz or .parquet"],
    );
    fails(&run(&["embed", "pictures", "--out", "pictures/a/text.jpg/x.npy"]), 1, &["text.jpg"]);
    for more in [
        &[][..],
        &["pictures", "--split", "test"],
        &["pictures", "--labels", "l.npy"],
        &["--split", "test", "--features", "y"],
    ] {
        assert_eq!(embed(more).status.code(), Some(2), "{more:?}");
    }
    assert_eq!(std::fs::read_dir(at("pictures/a")).expect("a folder").count(), before);

    // What comes after the last image isn't read, even if an image before it can't be.
    std::fs::create_dir_all(at("limited")).expect("a folder");
    for i in 0..PICTURES {
        let path = at(&format!("limited/{i:03}.png"));
        match i {
            1 | 2 => drop(std::fs::copy(at("pictures/a/0000.png"), path).expect("a copy")),
            _ => std::fs::write(path, "no image").expect("a file"),
        }
    }
    fails(
        &run(&["embed", "limited", "--limit", "2", "--out", "limited.npy"]),
        1,
        &["one image can't be read", "limited/000.png"],
    );

    // Images without classes have no labels to write.
    std::fs::create_dir_all(at("plain")).expect("a folder");
    for i in 0..20 {
        std::fs::copy(at(&format!("pictures/a/{:04}.png", 2 * i)), at(&format!("plain/{i}.png")))
            .expect("a copy");
    }
    let embed = run(&[
        "embed", "--split", "train", "--data", "plain", "--out", "x.npy", "--labels", "l.npy",
    ]);
    fails(&embed, 1, &["--labels", "plain", "no classes"]);
}

#[test]
fn neighbours_exclude_the_training_image_itself_but_those_of_its_copy_start_with_it() {
    let images = soda::data::bundled().expect("the bundled images").train;
    let pixel = |x, y| {
        image::Rgb(
            [0, 1, 2].map(|c: usize| images.image(5).unwrap()[c * 1024 + (y * 32 + x) as usize]),
        )
    };
    image::RgbImage::from_fn(32, 32, pixel).save(at("copy.png")).expect("a PNG");
    let near = |more: &[&str]| {
        let base = [
            "neighbours",
            "train:5",
            "copy.png",
            "test:3",
            "-k",
            "4",
            "--out",
            "n.png",
            "--json",
            "n.json",
        ];
        let out = succeeds(&run(&[&base[..], more].concat()));
        // The neighbours are named, not only their classes.
        assert!(out.contains(" of 4 of its class: train:"), "{out}");
        (json(&at("n.json")), image::open(at("n.png")).expect("a PNG").into_rgb8())
    };
    let (report, picture) = near(&[]);
    let rows = report["queries"].as_array().expect("rows");
    assert_eq!(
        (rows.len(), &rows[1]["query"], &rows[1]["class"]),
        (3, &"copy.png".into(), &serde_json::Value::Null)
    );
    let list = |row: usize| rows[row]["neighbours"].as_array().expect("neighbours").clone();
    assert_eq!(list(1)[0]["image"], "train:5");
    assert!(list(1)[0]["distance"].as_f64().is_some_and(|d| d < 1e-2), "{}", list(1)[0]);
    // The copy's other neighbours are those of the image, which isn't its own neighbour.
    assert_eq!(list(0)[..3], list(1)[1..]);
    for row in 0..3 {
        let distances: Vec<f64> =
            list(row).iter().map(|n| n["distance"].as_f64().expect("a distance")).collect();
        assert!(
            distances.len() == 4
                && distances.is_sorted()
                && distances.iter().all(|d| (0.0..=2.0).contains(d)),
            "{distances:?}"
        );
        let class = |n: &serde_json::Value| {
            soda::data::CLASSES[n["label"].as_u64().expect("a label") as usize]
        };
        assert!(list(row).iter().all(|n| n["class"] == class(n)));
    }
    assert!(picture.width() > 5 * 96 && picture.height() > 3 * 96);

    // The cache gives the same answer, even if it is damaged; other features give another one.
    let cached: Vec<_> = std::fs::read_dir(at("cache/soda/features"))
        .expect("a cache")
        .flatten()
        .map(|e| e.path())
        .collect();
    assert_eq!(near(&[]).0["queries"], report["queries"]);
    cached.iter().for_each(|path| std::fs::write(path, "damaged").expect("a file"));
    assert_eq!(near(&[]).0["queries"], report["queries"]);
    let backbone = near(&["--features", "backbone"]).0;
    assert_ne!(backbone["queries"][2], report["queries"][2]);

    fails(&run(&["neighbours", "test:1000"]), 2, &["test:1000"]);
    fails(&run(&["neighbours", "gone.png"]), 1, &["gone.png"]);
    fails(&run(&["neighbours", "test:0", "--features", "denoiser:up7.0@1"]), 2, &["up7.0"]);
    assert_eq!(run(&["neighbours"]).status.code(), Some(2));
    assert_eq!(run(&["neighbours", "test:0", "-k", "0"]).status.code(), Some(2));
}

#[test]
fn a_map_is_drawn_and_measured_with_both_methods() {
    let map = |more: &[&str]| {
        let out = succeeds(&run(&[
            &["map", "--limit", "120", "--out", "map.png", "--json", "map.json"],
            more,
        ]
        .concat()));
        (out, json(&at("map.json")), image::open(at("map.png")).expect("a PNG").into_rgb8())
    };
    let (out, tsne, drawn) = map(&[]);
    assert!(out.contains("z of 120 test images, t-SNE, perplexity 30"), "{out}");
    let points = tsne["points"].as_array().expect("points");
    let place = |p: &serde_json::Value| {
        [&p[0], &p[1]].map(|v| v.as_f64().filter(|v| v.is_finite()).expect("a place"))
    };
    assert_eq!((points.len(), tsne["labels"].as_array().map(Vec::len)), (120, Some(120)));
    points.iter().for_each(|p| drop(place(p).to_vec()));
    let kept = |report: &serde_json::Value| report["preserved"].as_f64().expect("a share");
    assert!(
        kept(&tsne) > 2.0 * tsne["preserved_by_chance"].as_f64().expect("a share"),
        "{}",
        kept(&tsne)
    );
    // A second run gives the same map.
    let (_, again, drawn_again) = map(&[]);
    assert_eq!((&again["points"], drawn_again), (&tsne["points"], drawn.clone()));
    let (out, pca, drawn_pca) = map(&["--method", "pca", "--features", "denoiser:middle@20"]);
    assert!(out.contains("denoiser:middle@20 of 120 test images, principal components"), "{out}");
    assert!(drawn_pca != drawn && pca["perplexity"].is_null() && kept(&pca) <= 100.0);
    // Both splits at once, drawn as images.
    let (out, all, drawn_all) = map(&["--split", "all", "--thumbnails", "--method", "pca"]);
    assert!(
        out.contains("60 test and 60 training images")
            && out.contains("of 120 images as thumbnails"),
        "{out}"
    );
    let names = all["images"].as_array().expect("names");
    assert_eq!(
        (names.len(), &names[0], &names[119]),
        (120, &"test:0".into(), &"train:4916".into())
    );
    assert!(
        all["thumbnails"].as_u64().is_some_and(|n| (5..=120).contains(&n))
            && tsne["thumbnails"].is_null()
    );
    assert!(drawn_all.width() > drawn.width(), "the frame for images isn't larger");
    assert_eq!((&all["data"]["split"], &tsne["data"]["split"]), (&"all".into(), &"test".into()));
    fails(&run(&["map", "--limit", "9"]), 2, &["--limit 9", "at least 10"]);
    fails(&run(&["map", "--perplexity", "0.5"]), 2, &["--perplexity 0.5"]);
    fails(
        &run(&["map", "--limit", "120", "--perplexity", "90"]),
        2,
        &["--perplexity 90", "between 1 and 39"],
    );
    fails(&run(&["map", "--method", "pca", "--perplexity", "9"]), 2, &["--method tsne"]);
    assert_eq!(run(&["map", "--method", "umap"]).status.code(), Some(2));
}

#[test]
fn a_map_of_a_small_folder_shows_all_of_its_images() {
    let folder = at("small");
    std::fs::create_dir_all(&folder).expect("a folder");
    for i in 0..30 {
        std::fs::copy(at(&format!("pictures/a/{:04}.png", 2 * i)), folder.join(format!("{i}.png")))
            .expect("a copy");
    }
    let map = |more: &[&str]| {
        run(&[
            &[
                "map",
                "--data",
                "small",
                "--method",
                "pca",
                "--out",
                "small.png",
                "--json",
                "small.json",
            ],
            more,
        ]
        .concat())
    };
    let out = succeeds(&map(&[]));
    assert!(out.contains("3 test and 27 training images"), "{out}");
    assert_eq!(
        (&json(&at("small.json"))["n"], &json(&at("small.json"))["data"]["split"]),
        (&30.into(), &"all".into())
    );
    succeeds(&map(&["--split", "train"]));
    assert_eq!(json(&at("small.json"))["n"], 27);
    fails(&map(&["--split", "test"]), 2, &["--split test: 3 images", "at least 10"]);
}

#[test]
fn whitening_uses_the_training_images_whether_it_is_stored_or_not() {
    let embed = |out: &str, more: &[&str], from: [&str; 2]| {
        let base =
            ["embed", "--split", "train", "--device", "cpu", "--out", out, "--json", "w.json"];
        let out = succeeds(&soda(FOLDER.path(), &[&base[..], more, &from].concat()));
        (out, json(&at("w.json")))
    };
    let own = ["--run", "run"];
    let (out, report) = embed("white.npy", &["--whiten", "--labels", "l.npy"], own);
    assert!(
        out.contains("features (z, whitened) in white.npy") && report["whitened"] == true,
        "{out}"
    );
    let stats = |name: &str| {
        let features = read(name, Some("l.npy"));
        soda::eval::latent_statistics::statistics(&features.values, features.dim)
            .expect("statistics")
    };
    // A run of two steps may leave directions without variance.
    let variances = stats("white.npy").variance;
    assert!(
        variances[..4].iter().all(|v| (v - 1.0).abs() < 1e-2)
            && variances.iter().all(|v| *v < 1.01),
        "{variances:?}"
    );
    embed("plain.npy", &[], own);
    assert!(stats("plain.npy").variance.iter().any(|v| (v - 1.0).abs() > 0.1));
    // It is that of the training images for test images, too.
    let whitening = Whitening::fit(&read("plain.npy", Some("l.npy"))).expect("a fit");
    let test = |out: &str, more: &[&str]| {
        let base = ["embed", "--split", "test", "--device", "cpu", "--run", "run", "--out", out];
        succeeds(&soda(FOLDER.path(), &[&base[..], &["--labels", "t.npy"], more].concat()));
        read(out, Some("t.npy"))
    };
    let (plain, white) = (test("plain_test.npy", &[]), test("white_test.npy", &["--whiten"]));
    assert!(same(&whitening.apply(&plain.values), &white.values));
    let of_test = Whitening::fit(&plain).expect("a fit");
    assert!(!same(&of_test.apply(&plain.values), &white.values), "any whitening would pass");

    // Stored with the weights, and so also for images without a training split.
    let export = [
        "export",
        "--run",
        "run",
        "--device",
        "cpu",
        "--whiten",
        "--half",
        "--out",
        "white.safetensors",
        "--json",
        "e.json",
    ];
    succeeds(&soda(FOLDER.path(), &export));
    assert_eq!(json(&at("e.json"))["whitening"], true);
    embed("stored.npy", &["--whiten"], ["--weights", "white.safetensors"]);
    let variances = stats("stored.npy").variance;
    assert!(
        variances[..4].iter().all(|v| (v - 1.0).abs() < 1e-2)
            && variances.iter().all(|v| *v < 1.01),
        "{variances:?}"
    );
    // Nothing is computed from images: the stored matrix is applied.
    let weights = WeightsFile::open(&at("white.safetensors")).expect("weights");
    let whitening =
        Whitening::of_tensors(&weights.more, 8, &weights.path).expect("whole").expect("stored");
    embed("half.npy", &[], ["--weights", "white.safetensors"]);
    assert!(same(
        &whitening.apply(&read("half.npy", Some("l.npy")).values),
        &read("stored.npy", Some("l.npy")).values
    ));
    // It is kept when the file is exported again, and a file without one stays as it is.
    succeeds(&soda(
        FOLDER.path(),
        &[
            "export",
            "--weights",
            "white.safetensors",
            "--out",
            "again.safetensors",
            "--json",
            "e.json",
        ],
    ));
    assert_eq!(json(&at("e.json"))["whitening"], true);
    succeeds(&soda(
        FOLDER.path(),
        &["export", "--run", "run", "--out", "bare.safetensors", "--json", "e.json"],
    ));
    assert_eq!(json(&at("e.json"))["whitening"], false);
    // For another side it is fitted again, as z is another.
    succeeds(&soda(
        FOLDER.path(),
        &[
            "export",
            "--weights",
            "white.safetensors",
            "--set",
            "data.source.side=24",
            "--device",
            "cpu",
            "--out",
            "side.safetensors",
            "--json",
            "e.json",
        ],
    ));
    assert_eq!(json(&at("e.json"))["whitening"], true);
    let side = WeightsFile::open(&at("side.safetensors")).expect("weights");
    let refit = Whitening::of_tensors(&side.more, 8, &side.path).expect("whole").expect("stored");
    assert_ne!(refit.to_tensors(), whitening.to_tensors());
}

/// Name, split, label, class and features of an image.
type Row = (String, Option<String>, Option<i32>, Option<String>, Vec<f32>);

/// Returns the rows of a Parquet file.
fn rows(file: &str) -> Vec<Row> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let reader = SerializedFileReader::new(std::fs::File::open(at(file)).expect("there"))
        .expect("a Parquet file");
    let text = |field: &Field| match field {
        Field::Str(text) => Some(text.clone()),
        _ => None,
    };
    let row = |row: parquet::record::Row| {
        let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
        let label = if let Field::Int(label) = fields[2] { Some(*label) } else { None };
        let Field::ListInternal(list) = fields[4] else { panic!("no list: {:?}", fields[4]) };
        let number = |field: &Field| {
            if let Field::Float(number) = field { *number } else { panic!("no float: {field}") }
        };
        (
            text(fields[0]).expect("a name"),
            text(fields[1]),
            label,
            text(fields[3]),
            list.elements().iter().map(number).collect(),
        )
    };
    reader.get_row_iter(None).expect("rows").map(|found| row(found.expect("a row"))).collect()
}

/// Returns the arrays of a `.npz` file as bytes, by name; asserts that each has the checksum that
/// the archive states.
fn arrays(file: &str) -> std::collections::HashMap<String, Vec<u8>> {
    let (bytes, mut at_byte, mut found) =
        (std::fs::read(at(file)).expect("there"), 0, std::collections::HashMap::new());
    let number =
        |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
    while bytes[at_byte..].starts_with(b"PK\x03\x04") {
        let (size, name) = (number(at_byte + 18), number(at_byte + 26) & 0xffff);
        let start = at_byte + 30 + name;
        let content = bytes[start..start + size].to_vec();
        let mut crc = flate2::Crc::new();
        crc.update(&content);
        assert_eq!(crc.sum() as usize, number(at_byte + 14));
        found.insert(String::from_utf8_lossy(&bytes[at_byte + 30..start]).into_owned(), content);
        at_byte = start + size;
    }
    assert!(bytes[at_byte..].starts_with(b"PK\x01\x02"), "no table of contents follows");
    found
}

#[test]
fn tables_hold_names_labels_and_classes_next_to_the_features() {
    let base = ["embed", "--split", "test", "--limit", "30"];
    succeeds(&run(&[&base[..], &["--out", "t.npy", "--labels", "tl.npy"]].concat()));
    let plain = read("t.npy", Some("tl.npy"));
    succeeds(&run(&[&base[..], &["--out", "t.parquet"]].concat()));
    let table = rows("t.parquet");
    assert_eq!(table.len(), 30);
    let classes = soda::data::bundled().expect("the bundled images").classes;
    for (i, (name, split, label, class, features)) in table.iter().enumerate() {
        assert_eq!((name.as_str(), split.as_deref()), (format!("test:{i}").as_str(), Some("test")));
        assert_eq!(*label, Some(plain.labels[i].into()));
        assert_eq!(class.as_deref(), Some(classes[usize::from(plain.labels[i])].as_str()));
        assert!(same(features, &plain.values[8 * i..8 * i + 8]));
    }
    succeeds(&run(&[&base[..], &["--out", "t.npz"]].concat()));
    let found = arrays("t.npz");
    let mut names: Vec<&str> = found.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["classes.npy", "label.npy", "name.npy", "split.npy", "z.npy"]);
    std::fs::write(at("z_of_npz.npy"), &found["z.npy"]).expect("written");
    std::fs::write(at("label_of_npz.npy"), &found["label.npy"]).expect("written");
    let again = read("z_of_npz.npy", Some("label_of_npz.npy"));
    assert!(again.labels == plain.labels && same(&again.values, &plain.values));
    assert!(
        found["name.npy"].starts_with(b"\x93NUMPY")
            && String::from_utf8_lossy(&found["name.npy"]).contains("'<U7'")
    );

    // Files have no labels, and their names are in the table: no separate file of names is written.
    succeeds(&run(&["embed", "pictures", "--skip-unreadable", "--out", "files.parquet"]));
    let table = rows("files.parquet");
    assert_eq!(table.len(), PICTURES);
    assert!(table.iter().all(|(name, split, label, class, _)| {
        name.ends_with(".png") && (split, label, class) == (&None, &None, &None)
    }));
    assert!(!at("files.parquet.txt").exists());
    fails(
        &run(&["embed", "pictures", "--out", "p.csv"]),
        2,
        &["p.csv", ".npy, .safetensors, .npz or .parquet"],
    );
}

#[test]
fn normalised_rows_have_length_1_and_the_same_directions() {
    let base = ["embed", "--split", "test", "--limit", "20"];
    succeeds(&run(&[&base[..], &["--out", "length.safetensors"]].concat()));
    succeeds(&run(&[
        &base[..],
        &["--normalise", "--out", "one.safetensors", "--json", "one.json"],
    ]
    .concat()));
    assert_eq!(json(&at("one.json"))["normalised"], true);
    let (plain, one) = (read("length.safetensors", None), read("one.safetensors", None));
    for (plain, one) in plain.values.chunks(8).zip(one.values.chunks(8)) {
        let length = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((length(one) - 1.0).abs() < 1e-6 && (length(plain) - 1.0).abs() > 1e-3);
        assert!(same(&plain.iter().map(|v| v / length(plain)).collect::<Vec<_>>(), one));
    }
}

#[test]
fn shards_are_computed_once_and_merged_into_the_whole() {
    let embed = |args: &[&str]| {
        run(&[&["embed", "pictures", "--skip-unreadable", "--out", "s/z.parquet"], args].concat())
    };
    let merge = |out: &str| soda(FOLDER.path(), &["embed", "--merge", "--out", out]);
    succeeds(&run(&["embed", "pictures", "--skip-unreadable", "--out", "whole.parquet"]));
    std::fs::create_dir_all(at("s")).expect("a folder");
    fails(&merge("s/z.parquet"), 2, &["no shards of s/z.parquet", "z.0-of-4.parquet"]);
    succeeds(&embed(&["--shard", "1/3"]));
    assert!(at("s/z.1-of-3.parquet").exists() && !at("s/z.parquet").exists());
    let manifest = json(&at("s/z.1-of-3.json"));
    assert_eq!((&manifest["shard"], &manifest["of"]), (&1.into(), &3.into()));
    // A third, except for the two unreadable images.
    let third = manifest["rows"].as_u64().expect("rows");
    assert!(third.abs_diff(PICTURES as u64 / 3) <= 2, "{third}");
    assert_eq!(manifest["weights_sha256"].as_str().map(str::len), Some(64));
    assert!(manifest["settings"].get("whitening").is_none(), "nothing is whitened");
    fails(&merge("s/z.parquet"), 1, &["z.0-of-3.parquet is missing", "--shard 0/3"]);
    let before =
        std::fs::metadata(at("s/z.1-of-3.parquet")).expect("there").modified().expect("a time");
    let output = embed(&["--shard", "all/3", "--json", "s/all.json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    succeeds(&output);
    assert!(said.contains(&format!("shard 1 of 3 already exists: {third} rows")), "{said}");
    assert_eq!(json(&at("s/all.json"))["n"], PICTURES);
    assert_eq!(
        std::fs::metadata(at("s/z.1-of-3.parquet")).expect("there").modified().expect("a time"),
        before,
        "made once"
    );
    let out = succeeds(&merge("s/z.parquet"));
    assert!(out.contains("150 rows of 3 shards"), "{out}");
    let sorted = |file: &str| {
        let mut rows = rows(file);
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    };
    let (merged, whole) = (sorted("s/z.parquet"), sorted("whole.parquet"));
    assert_eq!(merged.len(), whole.len());
    // The batches differ, so the order of summation may differ.
    assert!(merged.iter().zip(&whole).all(|(a, b)| a.0 == b.0 && same(&a.4, &b.4)));

    // Other features under the same name, a changed file, a file that isn't JSON.
    fails(
        &embed(&["--shard", "1/3", "--features", "backbone"]),
        2,
        &["z.1-of-3.parquet", "different"],
    );
    let whole = std::fs::read(at("s/z.2-of-3.parquet")).expect("there");
    std::fs::write(at("s/z.2-of-3.parquet"), &whole[..whole.len() - 9]).expect("written");
    fails(&merge("s/z.parquet"), 1, &["z.2-of-3.parquet has changed", "--shard 2/3"]);
    // Following the message fixes it.
    succeeds(&embed(&["--shard", "2/3"]));
    assert_eq!(std::fs::read(at("s/z.2-of-3.parquet")).expect("there").len(), whole.len());
    succeeds(&merge("s/z.parquet"));
    // For an array, the names are in a separate file.
    succeeds(&merge("s/z.npy"));
    assert_eq!(
        std::fs::read_to_string(at("s/z.npy.txt")).expect("names").lines().count(),
        PICTURES
    );
    std::fs::rename(at("s/z.2-of-3.json"), at("s/kept")).expect("renamed");
    fails(&merge("s/z.parquet"), 1, &["z.2-of-3.parquet is missing or not finished"]);
    std::fs::write(at("s/z.2-of-3.json"), "{\"shard\": 2}").expect("written");
    fails(&merge("s/z.parquet"), 1, &["z.2-of-3.json is not a shard's JSON"]);
    let other = std::fs::read_to_string(at("s/kept"))
        .expect("there")
        .replace("\"weights_sha256\": \"", "\"weights_sha256\": \"0");
    std::fs::write(at("s/z.2-of-3.json"), other).expect("written");
    fails(
        &merge("s/z.parquet"),
        1,
        &["z.0-of-3.parquet and", "z.2-of-3.parquet differ in weights"],
    );

    // A file that isn't a table, with a matching digest.
    std::fs::write(at("s/z.2-of-3.parquet"), "PAR1 not a table PAR1").expect("written");
    let mut lies = json(&at("s/kept"));
    lies["table_sha256"] = soda::files::sha256(b"PAR1 not a table PAR1").into();
    std::fs::write(at("s/z.2-of-3.json"), lies.to_string()).expect("written");
    fails(&merge("s/z.parquet"), 1, &["z.2-of-3.parquet cannot be read as a Parquet file"]);

    succeeds(&run(&["embed", "pictures/a/0000.png", "--out", "s/u.parquet", "--shard", "all/2"]));

    // For a data set, each shard has a range: merged, they are the whole in order, in any format.
    let base = ["embed", "--split", "test", "--limit", "30"];
    succeeds(&run(&[&base[..], &["--shard", "all/4", "--out", "s/t.parquet"]].concat()));
    succeeds(&merge("s/t.safetensors"));
    succeeds(&run(&[&base[..], &["--out", "s/whole.safetensors"]].concat()));
    let classes = |name: &str| {
        let bytes = std::fs::read(at(name)).expect("a file");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
        header.metadata().as_ref().expect("metadata")["classes"].clone()
    };
    assert_eq!(classes("s/t.safetensors"), classes("s/whole.safetensors"));
    let (merged, whole) = (read("s/t.safetensors", None), read("s/whole.safetensors", None));
    assert!(merged.labels == whole.labels && same(&merged.values, &whole.values));
    succeeds(&soda(
        FOLDER.path(),
        &["embed", "--merge", "--out", "s/t.npy", "--labels", "s/labels.npy"],
    ));
    assert_eq!(read("s/t.npy", Some("s/labels.npy")).labels, whole.labels);
    assert!(!at("s/t.npy.txt").exists(), "images of CIFAR have no names of their own");
    // Those of folders without labels have none to write.
    fails(
        &soda(FOLDER.path(), &["embed", "--merge", "--out", "s/u.npy", "--labels", "s/none.npy"]),
        2,
        &["--labels s/none.npy: the shards have none"],
    );

    // A file that is added meanwhile would be in two shards or in none.
    let few = |i: usize| {
        std::fs::create_dir_all(at("few")).expect("a folder");
        std::fs::copy(at("pictures/a/0000.png"), at(&format!("few/{i}.png"))).expect("copied");
    };
    (1..5).for_each(few);
    let part = |shard: &str| run(&["embed", "few", "--out", "s/f.parquet", "--shard", shard]);
    succeeds(&part("0/2"));
    few(0);
    succeeds(&part("1/2"));
    fails(
        &merge("s/f.parquet"),
        1,
        &["f.0-of-2.parquet and", "f.1-of-2.parquet were made from different files"],
    );
    succeeds(&run(&["embed", "few", "--out", "s/f.parquet", "--shard", "0/3"]));
    fails(&merge("s/f.parquet"), 1, &["shards of 2", "and of 3"]);

    // Whitened by the images of other data, rows aren't comparable.
    let white = |shard: &str, data: &str| {
        let more = ["--whiten", "--skip-unreadable", "--data", data, "--shard", shard];
        run(&[&["embed", "few", "--out", "s/w.parquet"][..], &more].concat())
    };
    succeeds(&white("0/2", "bundled"));
    succeeds(&white("1/2", "pictures"));
    fails(&merge("s/w.parquet"), 1, &["w.1-of-2.parquet differ in whitening"]);

    fails(&embed(&["--shard", "3/3"]), 2, &["3/16"]);
    fails(&embed(&["--shard", "auto"]), 2, &["no scheduler", "--shard 0/4"]);
    fails(
        &embed(&["--shard", "auto", "--json", "s/auto.json"]),
        2,
        &["--json s/auto.json", "every process would write this file"],
    );
    fails(
        &run(&["embed", "pictures", "--shard", "0/2", "--out", "z.npy"]),
        2,
        &["shards are Parquet files"],
    );
    let mut array = program(FOLDER.path());
    array.args([
        "embed",
        "pictures",
        "--skip-unreadable",
        "--run",
        "run",
        "--device",
        "cpu",
        "--out",
        "s/a.parquet",
        "--shard",
        "auto",
    ]);
    array.envs([
        ("SLURM_ARRAY_TASK_ID", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
        ("SLURM_ARRAY_TASK_MAX", "2"),
    ]);
    let output = array.output().expect("the program starts");
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("shard 1 of 2, assigned by Slurm's array (SLURM_ARRAY_TASK_ID)")
    );
    succeeds(&output);
    assert!(at("s/a.1-of-2.parquet").exists());
}
