use super::*;
use crate::data::formats::tests::{changed, contents, cuts, damage, left_out, refusal, rows};
use crate::data::listing::Content;

/// A folder with the files a.png, b/c.png and "d, e.png" and a table.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        ["a.png", "b/c.png", "d, e.png"]
            .iter()
            .for_each(|name| std::fs::write(dir.path().join(name), name).unwrap());
        Self(dir)
    }

    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn list(&self, name: &str, text: &str) -> Listing {
        list(&self.write(name, text.as_bytes())).unwrap().expect("a table")
    }

    fn refusal(&self, name: &str, text: &[u8]) -> String {
        refusal(&self.write(name, text))
    }
}

#[test]
fn reads_text_with_a_header() {
    let place = Place::new();
    let listing = place.list(
        "t.csv",
        "\u{feff}Label,File_Name,size\r\n10,./a.png,1\r\n9,b\\c.png,\r\n\r\n10,\"d, e.png\",3",
    );
    assert_eq!(listing.classes, ["9", "10"]);
    assert_eq!(rows(&listing), [("a.png", 1, None), ("b/c.png", 0, None), ("d, e.png", 1, None)]);
    assert!(matches!(&contents(&listing).unwrap()[1], Content::File(path) if path.is_file()));
    assert!(
        listing.reading.contains("the column File_Name, classes in the column Label"),
        "{}",
        listing.reading
    );

    let sets = "path\tclass\tsplit\na.png\tx\ttrain\nb/c.png\ty\tVal\nd, e.png\tx\textra\n";
    for (name, text) in
        [("t.tsv", sets.to_owned()), ("t.csv", sets.to_owned()), ("t.csv", sets.replace('\t', ";"))]
    {
        let listing = place.list(name, &text);
        assert_eq!(
            rows(&listing),
            [("a.png", 0, Some(Set::Train)), ("b/c.png", 1, Some(Set::Test))]
        );
        assert_eq!(left_out(&listing), [("images of no known set (train, test, validation)", 1)]);
    }
    // What isn't marked as test is for training, if anything is.
    let listing = place.list("t.csv", "path,split\na.png,trn\nb/c.png,test\n\"d, e.png\",\n");
    let (train, test) = (Some(Set::Train), Some(Set::Test));
    assert_eq!(rows(&listing), [("a.png", 0, train), ("b/c.png", 0, test), ("d, e.png", 0, train)]);
    let unknown = "sets in the column split, which names none (train, test, validation)";
    assert!(!listing.reading.contains(unknown), "{}", listing.reading);
    let listing = place.list("t.csv", "path,split\na.png,0\nb/c.png,1\n");
    assert_eq!(rows(&listing), [("a.png", 0, None), ("b/c.png", 0, None)]);
    assert!(listing.reading.contains(unknown), "{}", listing.reading);
    let listing = place.list("t.csv", "image\na.png\n");
    assert_eq!((listing.classes.len(), rows(&listing)), (0, vec![("a.png", 0, None)]));
}

#[test]
fn reads_json() {
    let place = Place::new();
    let rows_of = [
        r#"{"file": "a.png", "label": 3, "box": [1, {"x": 2}]}"#,
        r#"{"label": "2", "note": null, "file": "b/c.png"}"#,
    ];
    let array = format!("[{}]", rows_of.join(","));
    for (name, text) in [
        ("t.json", array),
        ("t.jsonl", rows_of.join("\n") + "\n"),
        ("t.json", rows_of.join("\r\n")),
    ] {
        let listing = place.list(name, &text);
        assert_eq!(
            (&listing.classes[..], rows(&listing)),
            (&["2".into(), "3".into()][..], vec![("a.png", 1, None), ("b/c.png", 0, None)])
        );
    }
}

#[test]
fn rows_that_do_not_count_are_counted() {
    let place = Place::new();
    let listing =
        place.list("t.csv", "path,label,set\na.png,x,train\n,y,train\nb/c.png,,train\na.png,x,train\n\"d, e.png\",x,test\n");
    assert_eq!(rows(&listing), [("a.png", 0, Some(Set::Train)), ("d, e.png", 0, Some(Set::Test))]);
    let expected =
        [("rows without a path", 1), ("rows without a label", 1), ("rows that repeat another", 1)];
    assert_eq!(left_out(&listing), expected);
    let listing = place.list("t.csv", "path,set\na.png,train\nb/c.png,val\n\"d, e.png\",test\n");
    assert_eq!(left_out(&listing), [("validation images, as there are test images", 1)]);
}

#[test]
fn says_what_is_wrong() {
    let place = Place::new();
    let missing: String = (0..25).map(|i| format!("no{i}.png,x\n")).collect();
    let all = place.refusal("t.csv", format!("path,label\na.png,x\n{missing}").as_bytes());
    assert!(all.contains("t.csv lists 25 files missing on disk: no0.png, no1.png,"), "{all}");
    assert!(all.contains("no19.png and 5 more; its paths are relative to its own folder"), "{all}");
    let columns = place.refusal("t.csv", b"picture,kind\na.png,x\n");
    assert!(
        columns.contains(
            "t.csv has the columns picture, kind, but none of paths; name the column of paths \
             `path`"
        ),
        "{columns}"
    );
    assert!(
        place
            .refusal("t.csv", b"path,label\na.png,x\na.png,y\n")
            .contains("lists a.png as x and as y")
    );
    assert!(
        place.refusal("t.csv", b"path,label\na.png,x,y\n").contains("has 3 cells for 2 columns")
    );
    assert!(place.refusal("t.csv", b"path,label\na.png,\xff\n").contains("is not UTF-8"));
    assert!(place.refusal("t.csv", b"path,label\n").contains("lists no images"));
    assert!(place.refusal("t.csv", b" \n").contains("it is empty"));
    assert!(
        place.refusal("t.csv", ",x".repeat(3000).as_bytes()).contains("more than 1000 columns")
    );
    assert!(place.refusal("t.json", b"path,label\n").contains("neither an array of objects"));
    assert!(place.refusal("t.json", b"[1, 2]").contains("cannot be read as a table"));
    assert!(
        place
            .refusal("t.json", br#"{"images": [{"path": "a.png"}]}"#)
            .contains("t.json has no columns; name the column of paths `path`")
    );
    let deep = [b"[{\"path\": ".to_vec(), b"[".repeat(100_000)].concat();
    assert!(place.refusal("t.json", &deep).contains("recursion"));
    // A folder, and a file that is not a table.
    assert!(place.refusal("t.csv", b"path\nb\n").contains("lists 1 file missing on disk: b"));
    assert!(
        crate::data::formats::list(&place.write("x.dat", b"path,label\na.png,1\n"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn more_classes_than_labels_are_refused() {
    let place = Place::new();
    let labels: Vec<String> = (0..=65_535).map(|i| i.to_string()).collect();
    let many = super::super::shared::classes_of(&labels, place.0.path()).err().unwrap().to_string();
    assert!(many.contains("has 65536 classes, but at most 65535 are supported"), "{many}");
    let (classes, numbers) =
        super::super::shared::classes_of(&labels[1..], place.0.path()).unwrap();
    assert_eq!((classes.len(), numbers[65_534], &classes[9][..]), (65_535, 65_534, "10"));
}

#[test]
fn survives_damage() {
    let place = Place::new();
    let csv = b"path,label,split\n\"a.png\",x,train\nb/c.png,\"y \"\"z\"\"\",test\n\"d, e.png\",x,train\n";
    let json =
        br#"[{"path": "a.png", "label": 1.5e3, "split": "train"}, {"path": "b/c.png", "label": "\u00e9", "split": "test"}]"#;
    let lines = b"{\"path\": \"a.png\", \"label\": 1}\n{\"path\": \"b/c.png\", \"label\": 2}\n";
    for (name, text) in [("t.csv", &csv[..]), ("t.json", json), ("t.jsonl", lines)] {
        let path = place.0.path().join(name);
        let (refused, accepted) = damage(&path, &path, cuts(text, 1));
        assert!(refused > text.len() / 3, "{name}: {refused} {accepted}");
        let (refused, accepted) = damage(&path, &path, changed(text, 500));
        assert!(refused > 50 && accepted > 10, "{name}: {refused} {accepted}");
    }
}
