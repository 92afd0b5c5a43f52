use super::*;

#[test]
fn a_run_without_a_checkpoint_is_to_be_trained_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("it's a run"));
    let refused = || run.weights().unwrap_err().to_string();
    let code = || run.weights().unwrap_err().exit_code();
    assert!(refused().ends_with("does not exist; name a run directory"), "{}", refused());
    assert_eq!(code(), 2, "a wrong name is a usage error");
    std::fs::create_dir(&run.path).expect("writable");
    assert!(refused().contains("holds no run: there is no config.toml"), "{}", refused());
    assert_eq!((code(), run.require().unwrap_err().to_string()), (2, refused()));
    std::fs::write(run.config(), "").expect("writable");
    run.require().expect("a run");
    assert_eq!(code(), 1, "the run is there");
    assert!(refused().ends_with(&Hint::Train(run.path.clone()).to_string()), "{}", refused());
}

#[test]
fn a_file_is_no_run() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let refused = RunDir::new(file.path()).require().unwrap_err().to_string();
    assert!(refused.ends_with("is not a folder; name a run directory"), "{refused}");
}

#[test]
fn weights_in_a_checkpoint_belong_to_its_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path().join("a run"));
    let weights = run.checkpoint(4).join("ema.safetensors");
    std::fs::create_dir_all(run.checkpoint(4)).expect("writable");
    std::fs::write(&weights, "").expect("writable");
    let found = |file: &Path| RunDir::of_weights(file).map(|run| run.path);
    assert_eq!(found(&weights), None, "nothing shows that it is a run");
    std::fs::write(run.config(), "").expect("writable");
    assert_eq!(found(&weights).as_ref(), Some(&run.path));
    let roundabout = run.checkpoint(4).join("../step_4/ema.safetensors");
    assert_eq!(found(&roundabout), std::fs::canonicalize(&run.path).ok());
    for other in [
        run.path.join("ema.safetensors"),
        "assets/weights/small.safetensors".into(),
        "w.safetensors".into(),
    ] {
        assert_eq!(found(&other), None, "{}", other.display());
    }
}

#[test]
fn starts_of_older_versions_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path());
    let old = r#"{"time":"2026-11-24T00:00:00Z","step":0,"from":"ab","command":["soda"],"version":"0.1.0","commit":null,"device":"cpu","adapter":"a","machine":{},"data":"CIFAR-10","data_sha256":"cd","images":9}"#;
    std::fs::write(run.starts(), format!("{old}\n")).expect("writable");
    let [start] = &run.read_starts()[..] else { panic!("not one start") };
    assert_eq!(
        (start.from.as_deref(), &start.from_name, start.from_images),
        (Some("ab"), &None, None)
    );
    assert_eq!((start.data_sha256.as_str(), &start.data_location), ("cd", &None));
    assert_eq!(json_line(start).trim_end(), old, "what isn't known isn't written");
}
