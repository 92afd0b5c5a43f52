use super::*;
use crate::data::formats::tests::{
    bytes, changed, contents, cuts, damage, fixture, left_out, refusal, rows,
};
use ::parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn listed(place: &Path) -> Listing {
    list(place).unwrap().expect("Parquet")
}

/// Writes a shard with these labels, in which each image is its label as text, with one row group
/// per two rows.
fn write(path: &Path, labels: &[i32]) {
    let schema =
        "message m { required group image { required binary bytes; } required int32 label; }";
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let out = File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut file =
        SerializedFileWriter::new(out, Arc::new(parse_message_type(schema).unwrap()), properties)
            .unwrap();
    for two in labels.chunks(2) {
        let mut group = file.next_row_group().unwrap();
        let images: Vec<ByteArray> =
            two.iter().map(|label| ByteArray::from(label.to_string().into_bytes())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(two, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    file.close().unwrap();
}

#[test]
fn reads_what_the_hub_stores() {
    let listing = listed(&fixture("hub.parquet"));
    assert_eq!(listing.classes, ["zebra", "ant", "cat"]);
    let expected =
        [("0.png", 0), ("1.png", 1), ("2.png", 2), ("3.png", 0), ("4.png", 1), ("6.png", 0)];
    assert_eq!(rows(&listing), expected.map(|(name, label)| (name, label, None)));
    assert_eq!(left_out(&listing), [("images without a label", 1)]);
    let images = contents(&listing).unwrap();
    assert!(matches!(&images[3], Content::Unreadable(why) if why == "has no image"));
    // The checksums at the ends distinguish the images.
    let ends: HashSet<&[u8]> = [0, 1, 2, 4, 5].map(|i| bytes(&images[i])).into_iter().collect();
    assert!(
        ends.len() == 5
            && ends
                .iter()
                .all(|image| image.starts_with(b"\x89PNG") && image.ends_with(b"IEND\xaeB`\x82"))
    );
    assert!(
        listing
            .reading
            .contains("1 shard) with the images in the column image and the labels in label"),
        "{}",
        listing.reading
    );
}

#[test]
fn reads_other_columns_and_compressions() {
    let listing = listed(&fixture("texts.parquet"));
    assert_eq!(listing.classes, ["9", "10", "b"]);
    assert_eq!(
        (rows(&listing)[3], rows(&listing)[5]),
        (("texts.parquet:3", 1, None), ("texts.parquet:5", 2, None))
    );
    let first = listed(&fixture("hub.parquet"));
    // The same images.
    assert_eq!(bytes(&contents(&listing).unwrap()[2]), bytes(&contents(&first).unwrap()[2]));
    let listing = listed(&fixture("numbers.parquet"));
    assert_eq!(listing.classes, ["-2", "9", "10"]);
    assert_eq!(rows(&listing)[..3].iter().map(|row| row.1).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(bytes(&contents(&listing).unwrap()[2]), bytes(&contents(&first).unwrap()[2]));
}

#[test]
fn the_names_of_shards_tell_their_sets() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("data/train-00000-of-00002.parquet"), &[10, 9, 10]);
    write(&dir.path().join("data/train-00001-of-00002.parquet"), &[2]);
    write(&dir.path().join("data/validation-00000-of-00001.parquet"), &[9]);
    std::fs::write(dir.path().join("README.md"), "").unwrap();
    let listing = listed(dir.path());
    assert_eq!(listing.classes, ["2", "9", "10"]);
    let (train, test) = (Some(Set::Train), Some(Set::Test));
    let name = |part: &str| format!("data/{part}");
    let names = [
        "train-00000-of-00002.parquet:0",
        "train-00000-of-00002.parquet:1",
        "train-00000-of-00002.parquet:2",
        "train-00001-of-00002.parquet:0",
        "validation-00000-of-00001.parquet:0",
    ]
    .map(name);
    let expected = [2, 1, 2, 0, 1].into_iter().zip([train, train, train, train, test]);
    assert_eq!(
        rows(&listing),
        names
            .iter()
            .zip(expected)
            .map(|(name, (label, set))| (name.as_str(), label, set))
            .collect::<Vec<_>>()
    );
    assert_eq!(left_out(&listing), [("files and folders that are not .parquet shards", 1)]);
    let texts: Vec<String> = contents(&listing)
        .unwrap()
        .iter()
        .map(|c| String::from_utf8_lossy(bytes(c)).into_owned())
        .collect();
    assert_eq!(texts, ["10", "9", "10", "2", "9"]);
    // A test set replaces the validation set, and shards without a set are left out.
    write(&dir.path().join("data/test-00000-of-00001.parquet"), &[9, 9]);
    write(&dir.path().join("data/extra-00000-of-00001.parquet"), &[9]);
    let listing = listed(dir.path());
    assert_eq!(listing.entries.iter().filter(|entry| entry.set == test).count(), 2);
    let left = [
        "files and folders that are not .parquet shards",
        "shards of no known set (train, test, validation)",
        "validation shards, as there are test shards",
    ];
    assert_eq!(left_out(&listing), left.map(|what| (what, 1)));
}

#[test]
fn says_what_is_wrong() {
    let captions = refusal(&fixture("captions.parquet"));
    assert!(
        captions.contains("captions.parquet has the columns text, but none of encoded images"),
        "{captions}"
    );
    let delta = refusal_of_contents(&fixture("delta.parquet"));
    assert!(delta.contains("encoded as DELTA_LENGTH_BYTE_ARRAY, which is not read"), "{delta}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    write(&path, &[1, 2]);
    let listing = listed(&path);
    write(&path, &[1]);
    assert!(
        contents(&listing)
            .err()
            .unwrap()
            .to_string()
            .contains("x.parquet has changed since it was listed")
    );
    std::fs::write(&path, "PAR1").unwrap();
    assert!(
        refusal(&path).contains("x.parquet cannot be read as a Parquet file (it is too short)")
    );
}

fn refusal_of_contents(path: &Path) -> String {
    contents(&listed(path)).err().expect("a refusal").to_string()
}

#[test]
fn survives_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    for name in ["hub.parquet", "texts.parquet", "numbers.parquet"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let (_, accepted) = damage(&path, &path, cuts(&whole, 5));
        assert_eq!(accepted, 0, "{name}");
        let (refused, accepted) = damage(&path, &path, changed(&whole, 1000));
        assert!(refused > 100 && accepted > 100, "{name}: {refused} {accepted}");
    }
}

#[test]
fn failures_of_the_visitor_are_not_blamed_on_the_file() {
    let listing = listed(&fixture("hub.parquet"));
    let failed =
        (listing.contents)(&mut |_, _| Err(Error::failed("the disk is full"))).unwrap_err();
    assert_eq!(failed.to_string(), "the disk is full");
    assert!(
        catch_unwind(AssertUnwindSafe(|| (listing.contents)(&mut |_, _| panic!(
            "a fault of its own"
        ))))
        .is_err()
    );
}
