use super::*;
use std::io::Seek;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::process::Command;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("there")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Makes a named pipe, and reads it to its end in a thread.
fn pipe(path: &Path) -> std::thread::JoinHandle<Vec<u8>> {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
    let path = path.to_owned();
    std::thread::spawn(move || std::fs::read(path).expect("a pipe"))
}

#[test]
fn a_link_stays_a_link_and_its_target_gets_the_contents() {
    let (folder, elsewhere) = (folder(), folder());
    let (link, second, target) =
        (folder.path().join("l"), folder.path().join("m"), elsewhere.path().join("target"));
    std::fs::write(&target, "old").expect("written");
    symlink(&target, &link).expect("linked");
    symlink("l", &second).expect("linked");
    let before = std::fs::metadata(&target).expect("there").ino();
    check_writable(&second).expect("a file in the end");
    write_atomically(&second, b"new").expect("written");
    assert_eq!(text(&target), "new");
    // Still atomic: a new file, under the same name, from the same folder.
    assert_ne!(std::fs::metadata(&target).expect("there").ino(), before);
    for path in [&link, &second] {
        assert!(path.symlink_metadata().expect("there").is_symlink());
    }
    assert_eq!(
        (names(folder.path()), names(elsewhere.path())),
        (vec!["l".into(), "m".into()], vec!["target".into()])
    );
}

#[test]
fn the_target_of_a_dangling_link_is_created() {
    let folder = folder();
    let (link, target) = (folder.path().join("l"), folder.path().join("new/deep/target"));
    symlink("new/deep/target", &link).expect("linked");
    check_writable(&link).expect("can be made");
    assert_eq!(names(folder.path()), ["l"], "the check creates nothing");
    create_parent(&link).expect("made");
    write_atomically(&link, b"x").expect("written");
    assert!(link.symlink_metadata().expect("there").is_symlink());
    assert_eq!(text(&target), "x");
    // Once removed, it can be created again.
    remove_file(&link).expect("removed");
    remove_file(&link).expect("not there");
    assert!(!target.exists() && link.symlink_metadata().expect("there").is_symlink());
    write_atomically(&link, b"y").expect("written");
    assert_eq!(text(&target), "y");
}

#[test]
fn links_in_a_circle_and_links_to_folders_are_named() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    symlink("b", at("a")).expect("linked");
    symlink("a", at("b")).expect("linked");
    symlink(".", at("here")).expect("linked");
    for look in [
        check_writable,
        create_parent,
        |path: &Path| write_atomically(path, b"x"),
        |path: &Path| partial(path).map(drop),
    ] {
        let error = look(&at("a")).expect_err("no end").to_string();
        assert!(error.contains("/a is a link that leads back to itself"), "{error}");
    }
    let error = check_writable(&at("here")).expect_err("a folder");
    assert!(error.exit_code() == 2 && error.to_string().contains("is a folder"), "{error}");
    assert!(write_atomically(&at("here"), b"x").is_err());
    assert_eq!(names(folder.path()), ["a", "b", "here"]);
}

#[test]
fn a_write_that_is_cut_short_leaves_the_target_of_a_link_as_it_was() {
    let folder = folder();
    let (link, target) = (folder.path().join("l"), folder.path().join("target"));
    symlink("target", &link).expect("linked");
    std::fs::write(&target, "old").expect("written");
    for n in 0.. {
        crash_at(Some(n));
        let written = write_atomically(&link, b"new");
        let left = crash_at(None);
        assert!(["old", "new"].contains(&text(&target).as_str()));
        assert!(link.symlink_metadata().expect("there").is_symlink());
        if written.is_ok() {
            assert!(n == 4 && left == Some(0) && text(&target) == "new", "{n} points");
            break;
        }
    }
}

#[test]
fn a_pipe_is_checked_without_blocking_and_written_to() {
    let folder = folder();
    let (fifo, link) = (folder.path().join("fifo"), folder.path().join("l"));
    let reader = pipe(&fifo);
    symlink("fifo", &link).expect("linked");
    check_writable(&link).expect("a pipe");
    create_parent(&link).expect("nothing to make");
    // More than a pipe holds.
    let bytes: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    write_atomically(&link, &bytes).expect("written");
    assert!(reader.join().expect("read") == bytes);
    assert!(fifo.symlink_metadata().expect("there").file_type().is_fifo());
    assert_eq!(names(folder.path()), ["fifo", "l"]);
    // Without a reader the check doesn't block.
    check_writable(&fifo).expect("a pipe");
}

#[test]
fn a_pipe_gets_the_whole_of_a_partial_file_on_completion() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    let reader = pipe(&fifo);
    let mut file = partial(&fifo).expect("a temporary file");
    file.write_all(b"..34").expect("written");
    file.rewind().and_then(|()| file.write_all(b"12")).expect("written");
    complete(file).expect("poured");
    assert_eq!(reader.join().expect("read"), b"1234");
    assert!(fifo.symlink_metadata().expect("there").file_type().is_fifo());
}

#[test]
fn a_pipe_whose_reader_stops_is_not_an_error() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let path = fifo.clone();
    let reader = std::thread::spawn(move || {
        let mut first = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut first)).map(|()| first)
    });
    write_atomically(&fifo, &vec![7; 1 << 20]).expect("nobody reads the rest");
    assert_eq!(reader.join().expect("ends").expect("read"), [7; 4]);
}

#[test]
fn devices_are_written_to_and_stay_devices() {
    for device in
        ["/dev/null", "/dev/full"].map(Path::new).into_iter().filter(|device| device.exists())
    {
        // Checked before anything is written below: with sufficient rights a faulty write would
        // replace the device, for the whole machine.
        assert_eq!(Destination::of(device).expect("there"), Destination::Stream);
        check_writable(device).expect("a device");
    }
    let folder = folder();
    let link = folder.path().join("l");
    symlink("/dev/null", &link).expect("linked");
    assert_eq!(Destination::of(&link).expect("there"), Destination::Stream);
    write_atomically(&link, b"x").expect("taken");
    remove_file(&link).expect("left where it is");
    complete(partial(&link).expect("a temporary file")).expect("taken");
    assert!(link.symlink_metadata().expect("there").is_symlink());
    assert!(std::fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    if cfg!(target_os = "linux") {
        let error = write_atomically(Path::new("/dev/full"), b"x").expect_err("full").to_string();
        assert!(
            error.contains("/dev/full: No space left") && error.contains("free some space"),
            "{error}"
        );
        assert!(std::fs::metadata("/dev/full").expect("there").file_type().is_char_device());
    }
}

#[test]
fn sockets_are_refused_and_a_dash_without_a_folder_is_standard_output() {
    let folder = folder();
    let path = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let error = check_writable(&path).expect_err("a socket");
    assert!(error.exit_code() == 2 && error.to_string().contains("is a socket"), "{error}");
    assert_eq!(Destination::of(Path::new("-")).expect("no file"), Destination::Output);
    assert_eq!(Destination::of(Path::new("./-")).expect("a file"), Destination::File("./-".into()));
    assert_eq!(
        Destination::of(&folder.path().join("-")).expect("a file"),
        Destination::File(folder.path().join("-"))
    );
}

#[test]
fn a_missing_folder_is_writable_unless_a_file_is_in_the_way() {
    let folder = folder();
    check_writable(&folder.path().join("a/b/c.png")).expect("can be made");
    assert!(names(folder.path()).is_empty());
    std::fs::write(folder.path().join("file"), "").expect("written");
    let error = check_writable(&folder.path().join("file/b/c.png")).expect_err("in the way");
    assert!(error.exit_code() == 1 && error.to_string().contains("file/b/c.png"), "{error}");
}

#[test]
fn the_longest_names_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    // 254 bytes, two for each letter.
    let path = folder.path().join("\u{e9}".repeat(127));
    write_atomically(&path, b"x").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"x");
}
