//! `soda data`, and what commands say about data that they can't use.

use crate::common::program::{fails, json, program, soda, succeeds, text, train};
use crate::common::run::{signal, wait_for};
use std::path::Path;

/// Writes a grey image of 32 x 32 pixels to each of `names` below `at`.
fn images(at: &Path, names: &[&str]) {
    for (i, name) in names.iter().enumerate() {
        let file = at.join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
        let grey = image::GrayImage::from_pixel(32, 32, image::Luma([i as u8]));
        grey.save(file).expect("writable");
    }
}

#[test]
fn the_bundled_subset_is_shown_verified_and_packed_and_is_the_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for args in [&["data", "show", "bundled"][..], &["data", "show", "--data", "bundled"]] {
        let output = soda(at, args);
        let out = succeeds(&output);
        assert!(
            out.contains("CIFAR-10 subset") && out.contains("5,000 training, 1,000 test"),
            "{out}"
        );
        assert!(!text(&output.stderr).contains("fetched"), "{}", text(&output.stderr));
    }
    let out = succeeds(&soda(at, &["data", "verify", "bundled"]));
    assert!(out.contains("5,000 training and 1,000 test images of 10 classes"), "{out}");
    let pack = ["data", "pack", "bundled", "--side", "16", "--out", "p.safetensors"];
    let out = succeeds(&soda(at, &pack));
    assert!(out.starts_with("p.safetensors: 6,000 images at 16 x 16, "), "{out}");
    assert!(out.trim_end().ends_with(" MB; use it with --data p.safetensors"), "{out}");
    let pack = ["probe", "--weights", "p.safetensors", "--device", "cpu"];
    fails(&soda(at, &pack), 2, &["p.safetensors holds images", "not weights"]);
    // Nothing has been fetched, and there may be other files in the cache folder.
    for there in [false, true] {
        if there {
            std::fs::create_dir_all(at.join("cache/soda")).expect("writable");
            std::fs::write(at.join("cache/soda/other"), "x").expect("writable");
        }
        for (action, says) in [("show", "5,000 training, 1,000 test"), ("verify", "5,000 training")]
        {
            let output = soda(at, &["data", action]);
            assert!(succeeds(&output).contains(says), "{action}: {}", text(&output.stdout));
            let said = text(&output.stderr);
            assert!(said.contains("no CIFAR-10 has been fetched (`soda data fetch`)"), "{said}");
        }
        let output = soda(at, &["data", "bundle", "--out", "b"]);
        fails(&output, 1, &["made of the full CIFAR-10", "`soda data fetch`"]);
        assert!(!at.join("b").exists());
    }
    fails(&soda(at, &["data", "fetch", "--data", "bundled"]), 2, &["name a folder with --data"]);
    assert!(!at.join("bundled").exists());
}

#[test]
fn fetching_is_suggested_only_where_nothing_is_in_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::write(at.join("rec.toml"), "[train]\nsteps = 1\n").expect("writable");
    std::fs::create_dir_all(at.join("notes")).expect("writable");
    std::fs::write(at.join("notes/a.txt"), "x").expect("writable");
    for (data, says) in [("rec.toml", "rec.toml is a file"), ("notes", "notes holds no images")] {
        let output = soda(at, &["reconstruct", "--device", "cpu", "--data", data]);
        fails(&output, 1, &[says, "--data takes a folder of images"]);
        assert!(!text(&output.stderr).contains("data fetch"), "{}", text(&output.stderr));
    }
    fails(&soda(at, &["data", "fetch", "--data", "rec.toml"]), 2, &["rec.toml is a file"]);
    for action in ["show", "verify"] {
        let output = soda(at, &["data", action, "p.safetensors"]);
        fails(&output, 1, &["p.safetensors does not exist; check the path", "soda data fetch"]);
    }
    // Nobody listens there.
    let nobody = ["data", "fetch", "--url", "http://127.0.0.1:9/x", "--data", "new/place"];
    fails(&soda(at, &nobody), 1, &["cannot download"]);
    assert!(!at.join("new").exists(), "the folders stay after a failure");
}

#[test]
fn a_run_among_the_images_isnt_part_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let names: Vec<String> =
        (0..40).map(|i| format!("{}/{i}.png", if i % 2 == 0 { "a" } else { "b" })).collect();
    images(at, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let shown = || succeeds(&soda(at, &["data", "show", "--data", "."]));
    let before = shown();
    succeeds(&train(at, &["--data", ".", "--run", "runs/r", "--set", "train.steps=1"]));
    assert!(at.join("runs/r/loss.png").exists());
    let after = shown();
    let digest = |text: &str| text.lines().find(|line| line.contains("digest")).map(str::to_owned);
    assert_eq!(digest(&after), digest(&before));
    assert!(after.contains("directories of runs"), "{after}");
    let resume = ["--data", ".", "--run", "runs/r", "--resume", "--set", "train.steps=2"];
    succeeds(&train(at, &[&resume[..], &["--allow-change"]].concat()));
}

#[test]
fn an_output_doesnt_replace_what_the_command_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    images(at, &["q.png"]);
    let before = std::fs::read(at.join("q.png")).expect("there");
    for args in [
        &["neighbours", "q.png", "--device", "cpu", "--out", "q.png"][..],
        &["embed", "./q.png", "--device", "cpu", "--out", "z.npy", "--json=q.png"],
    ] {
        fails(&soda(at, args), 2, &["q.png: another word of the command names this file"]);
    }
    assert_eq!(std::fs::read(at.join("q.png")).expect("there"), before);
    // A file that is there and isn't read is replaced.
    let show = ["data", "show", "bundled", "--json", "s.json"];
    succeeds(&soda(at, &show));
    succeeds(&soda(at, &show));
}

#[test]
fn a_set_that_nothing_can_be_trained_on_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    images(at, &["two/a/0.png", "two/b/1.png"]);
    let output = soda(at, &["data", "show", "two", "--json", "s.json"]);
    let (out, said) = (succeeds(&output), text(&output.stderr));
    assert!(out.contains("2 training, 0 test"), "{out}");
    assert!(said.contains("none is left for the test set"), "{said}");
    assert_eq!(json(&at.join("s.json"))["test"], 0);
    fails(&train(at, &["--data", "two"]), 1, &["none is left for the test set"]);
    // A second image of one class is enough.
    images(at, &["two/a/2.png"]);
    let out = succeeds(&soda(at, &["data", "show", "two"]));
    assert!(out.contains("2 training, 1 test"), "{out}");
    assert!(out.contains("the last image of each class is a test image"), "{out}");
}

#[test]
fn options_without_an_effect_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    images(at, &["d/train/a/0.png", "d/train/b/1.png", "d/test/a/2.png"]);
    let warned = |action: &str, more: &[&str]| {
        let output = soda(at, &[&["data", action], more].concat());
        succeeds(&output);
        text(&output.stderr)
    };
    let show = |more: &[&str]| warned("show", more);
    let said = show(&["d", "--split-ratio", "0.3", "--layout", "splits"]);
    assert!(said.contains("--split-ratio is not used: d has a test set of its own"), "{said}");
    assert!(!said.contains("--layout"), "{said}");
    let said = show(&["d/train/a", "--layout", "classes", "--split-ratio", "0.5"]);
    assert!(!said.contains("is not used"), "{said}");
    for action in ["show", "verify"] {
        let said = warned(action, &["bundled", "--split-ratio", "0.3", "--layout", "classes"]);
        for flag in ["--split-ratio", "--layout"] {
            assert!(said.contains(&format!("{flag} is not used: bundled ")), "{said}");
        }
    }
}

#[test]
fn pack_takes_the_sides_of_recipes_and_names_what_it_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let names: Vec<String> = (0..20).map(|i| format!("photos/{}/{i}.png", i % 2)).collect();
    images(at, &names.iter().map(String::as_str).collect::<Vec<_>>());
    std::fs::write(at.join("photos/0/a.txt"), "x").expect("writable");
    let pack =
        |side: &str, out: &str| soda(at, &["data", "pack", "photos", "--side", side, "--out", out]);
    for side in ["8", "33", "264", "x"] {
        fails(&pack(side, "p.safetensors"), 2, &["--side", side]);
    }
    fails(&pack("33", "p.safetensors"), 2, &["must be a multiple of 8 from 16 to 256"]);
    fails(&pack("32", "new/p.txt"), 2, &["--out new/p.txt", "must end in .safetensors"]);
    assert!(!at.join("new").exists());
    fails(&pack("32", "-"), 2, &["--out -", "read by position"]);
    let out = succeeds(&pack("32", "p.safetensors"));
    assert_eq!(
        out,
        "p.safetensors: 20 images at 32 x 32, 0.1 MB; left out: files that are not images (.txt): \
         1; use it with --data p.safetensors\n"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_pack_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Takes seconds to decode.
    std::fs::create_dir(at.join("photos")).expect("writable");
    let large = image::GrayImage::from_pixel(4000, 4000, image::Luma([9]));
    large.save(at.join("photos/0.png")).expect("writable");
    for i in 1..100 {
        std::fs::hard_link(at.join("photos/0.png"), at.join(format!("photos/{i}.png")))
            .expect("a link");
    }
    let mut pack = program(at);
    pack.args(["data", "pack", "photos", "--side", "32", "--out", "p.safetensors"]);
    let mut child = pack.stderr(std::process::Stdio::null()).spawn().expect("starts");
    let files = || {
        let entries = std::fs::read_dir(at).expect("a folder").flatten();
        entries.filter(|entry| entry.path().is_file()).count()
    };
    wait_for("the file", || files() == 1);
    signal(&child, "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(files(), 0);
}

#[cfg(unix)]
#[test]
fn an_interrupted_fetch_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place");
    // Accepts the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/x", silent.local_addr().expect("an address"));
    let mut fetch = program(folder.path());
    fetch.args(["data", "fetch", "--data", "place", "--url", &url]).env("NO_PROXY", "127.0.0.1");
    let mut child = fetch.stderr(std::process::Stdio::null()).spawn().expect("starts");
    let entries = || std::fs::read_dir(&place).map_or(0, Iterator::count);
    wait_for("the temporary folder", || entries() > 0);
    signal(&child, "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(entries(), 0);
}

#[test]
fn images_without_class_folders_are_described_once_and_health_says_what_it_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let names: Vec<String> = (0..10).map(|i| format!("photos/{i}.png")).collect();
    images(at, &names.iter().map(String::as_str).collect::<Vec<_>>());
    succeeds(&train(at, &["--run", "r"]));
    let mut command = program(at);
    command.args(["reconstruct", "--run", "r", "--device", "cpu", "-n", "1", "--data", "photos"]);
    let output = command.output().expect("starts");
    assert!(succeeds(&output).contains("over 1 test image from"), "{}", text(&output.stdout));
    let said = text(&output.stderr);
    assert!(
        said.contains(
            "data: images of photos (9 training, 1 test image; images without class folders, one \
             image in 10 is a test image)"
        ),
        "{said}"
    );
    let health = ["health", "--run", "r", "--device", "cpu", "--data", "photos"];
    fails(&soda(at, &health), 1, &["health needs images of at least two classes"]);
}

#[test]
fn an_error_names_the_environment_where_that_chose_the_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (args, blamed) in [
        (&["data", "verify"][..], true),
        (&["data", "show"], true),
        (&["reconstruct", "-n", "1", "--device", "cpu"], true),
        (&["data", "verify", "elsewhere"], false),
        (&["data", "show", "--data", "elsewhere"], false),
    ] {
        let output = program(at).args(args).env("SODA_DATA", "nowhere").output().expect("starts");
        let place = if blamed { "error: SODA_DATA: nowhere does" } else { "error: elsewhere does" };
        fails(&output, 1, &[place, "not exist"]);
    }
}
