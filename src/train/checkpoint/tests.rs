use super::*;
use crate::files::crash_at;
use crate::run_dir::COMPLETE;
use crate::train::optim::Moments;
use burn::tensor::Device;

fn tiny() -> Config {
    let sets = [
        "model.z_dim=8",
        "model.encoder.base=4",
        "model.unet.base=8",
        "model.unet.multipliers=[1,2]",
    ];
    let sets: Vec<String> = sets
        .iter()
        .chain(&["model.unet.groups=2", "model.unet.final_groups=2"])
        .map(|s| (*s).into())
        .collect();
    Config::parse(include_str!("../../../configs/quick.toml"), "quick.toml", &sets)
        .expect("a recipe")
}

/// A state as it is after a step.
fn state(config: &Config) -> State {
    let mut state = State::new(config, "data", &Device::flex());
    for parameter in parameters::collect(&state.model.valid())
        .into_iter()
        .filter(|p| !parameters::is_statistic(&p.name))
    {
        let (first, second) = (parameter.values.zeros_like(), parameter.values.ones_like());
        state.optim.moments.insert(parameter.name, Moments { first, second });
    }
    state
}

/// Returns the step that `run` resumes from, and what is said about it.
fn found(run: &RunDir, config: &Config) -> (u64, Vec<String>) {
    let mut said = Vec::new();
    let state = load(run, config, &Device::flex(), &mut |line| said.push(line.to_owned()))
        .expect("a whole checkpoint");
    (state.expect("a checkpoint").position.step, said)
}

#[test]
fn a_kill_between_any_two_changes_on_disk_leaves_a_whole_checkpoint() {
    let config = tiny();
    let mut state = state(&config);
    let snapshots = [1, 2].map(|step| {
        (state.position.step, state.position.images) = (step, 32 * step);
        Snapshot::of(&state, &config).expect("a snapshot")
    });
    let (mut boundaries, mut before_the_rename) = (0, 0);
    loop {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path());
        snapshots[0].write(&run, 1, None).expect("written");
        crash_at(Some(boundaries));
        let written = snapshots[1].write(&run, 1, None);
        let left = crash_at(None);
        let half_written = run.leftovers(PARTIAL).len();
        let (step, said) = found(&run, &config);
        if left > Some(0) {
            written.expect("nothing was in the way");
            assert_eq!((step, run.checkpoints(), said.len()), (2, vec![2], 0));
            break;
        }
        // Either the old or the new one, and a line only if a half-written one is left. (The old
        // one is removed once the new one exists; a failure to remove it is not an error.)
        assert!(step == 1 && written.is_err() || step == 2);
        assert_eq!(said.len(), half_written, "{said:?}");
        assert!(
            run.leftovers(PARTIAL).is_empty() && run.leftovers(OLD).is_empty(),
            "leftovers would accumulate"
        );
        before_the_rename += u32::from(step == 1);
        // The next attempt copes with what was left.
        snapshots[1].write(&run, 1, None).expect("written");
        assert_eq!(found(&run, &config), (2, vec![]));
        assert_eq!(run.checkpoints(), [2]);
        boundaries += 1;
    }
    // Five files with four possible crashes each, two folders, a rename; then the old one is
    // renamed and removed.
    assert!(
        before_the_rename >= 20 && boundaries >= before_the_rename + 6,
        "{boundaries}, {before_the_rename}"
    );
}

#[test]
fn a_kill_while_a_checkpoint_is_written_again_leaves_a_whole_one() {
    let config = tiny();
    let snapshot = Snapshot::of(&state(&config), &config).expect("a snapshot");
    let step = snapshot.step();
    let mut moved_back = 0;
    for boundary in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::new(folder.path());
        snapshot.write(&run, 1, None).expect("written");
        crash_at(Some(boundary));
        let _ = snapshot.write(&run, 1, None);
        let left = crash_at(None);
        moved_back += u32::from(run.checkpoints().is_empty());
        assert_eq!(found(&run, &config).0, step, "at {boundary}");
        assert!(run.leftovers(PARTIAL).is_empty() && run.leftovers(OLD).is_empty());
        if left > Some(0) {
            break;
        }
    }
    assert!(moved_back > 0, "no crash was between the old one and the new one");
}

#[test]
fn checkpoints_that_cannot_be_seen_or_lost_their_marker_are_no_reason_to_start_again() {
    let (config, folder) = (tiny(), tempfile::tempdir().expect("a folder"));
    let run = RunDir::new(folder.path());
    let load = |said: &mut Vec<String>| {
        load(&run, &config, &Device::flex(), &mut |line| said.push(line.to_owned()))
    };
    let mut said = Vec::new();
    assert!(load(&mut said).expect("nothing was ever saved").is_none());
    let mut state = state(&config);
    for step in [3, 5] {
        state.position.step = step;
        Snapshot::of(&state, &config).expect("a snapshot").write(&run, 0, None).expect("written");
    }
    // A power cut leaves such a file on some systems: it exists, and is empty.
    std::fs::write(run.checkpoint(5).join(COMPLETE), b"").expect("writable");
    assert!(
        verify_weights(&run.checkpoint(5).join("ema.safetensors")).is_err(),
        "no checksum to verify it"
    );
    assert_eq!(load(&mut said).expect("loads").expect("a state").position.step, 3);
    assert!(
        said.len() == 1 && said[0].contains(COMPLETE) && said[0].contains("going back"),
        "{said:?}"
    );
    std::fs::remove_file(run.checkpoint(3).join(COMPLETE)).expect("there");
    for _ in 0..2 {
        let message = load(&mut said).err().expect("no whole one is left").to_string();
        assert!(
            message.contains("COMPLETE is missing") && message.contains("no whole checkpoint"),
            "{message}"
        );
    }
    // A file in place of the folder.
    std::fs::rename(folder.path().join("checkpoints"), folder.path().join("elsewhere"))
        .expect("moved");
    std::fs::write(folder.path().join("checkpoints"), b"").expect("writable");
    let message = load(&mut said).err().expect("can't be read").to_string();
    assert!(message.contains("cannot read") && message.contains("checkpoints"), "{message}");
}
