//! What a user is told when a device fails, and the command that goes on.

use crate::error::Error;
use std::any::Any;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What a panic comes to for a user; `None` where nobody is left to tell (the reader of a pipe has gone).
pub fn panicked(panic: &(dyn Any + Send)) -> Option<Error> {
    let message = message(panic);
    if let Some(why) = message.strip_prefix("failed printing to stdout: ") {
        // By number, as it is called otherwise in each language: a closed pipe on Unix, and two names for it on Windows.
        let closed = ["(os error 32)", "(os error 109)", "(os error 232)"].iter().any(|code| why.contains(code));
        return (!closed).then(|| Error::failed(format!("what was found can't be printed: {why}")));
    }
    Some(match DEVICE_SAID.get() {
        Some(said) => device_failed(&format!("the device failed ({said})")),
        None => device_failed(&format!("something failed that should not ({})", first_line(&message))),
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().cloned();
    message.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "no message".into())
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// What wgpu said first in a thread of its own, where a lack of memory becomes a panic that nobody else hears of.
static DEVICE_SAID: OnceLock<String> = OnceLock::new();

/// Looks at every panic, wherever it happens.
pub fn overhear(panic: &(dyn Any + Send)) {
    let message = message(panic);
    if message.contains("wgpu") {
        let _ = DEVICE_SAID.set(first_line(&message).to_owned());
    }
}

/// What a user does about a device that failed, added to `what` happened.
pub(super) fn device_failed(what: &str) -> Error {
    let said = DEVICE_SAID.get().filter(|said| !what.contains(said.as_str()));
    let what = &said.map_or_else(|| what.to_owned(), |said| format!("{what}: {said}"));
    let lower = what.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let memory = says(&["memory", "allocat", "buffer size", "binding size"]);
    // As CubeCL calls it from then on.
    let lost = says(&["lost", "poisoned"]);
    let advice = ADVICE.lock().unwrap_or_else(PoisonError::into_inner).take();
    Error::failed(match advice.and_then(|advice| advice()) {
        Some(Advice { resume, run }) => {
            let what = format!("{what}; checkpoints are intact");
            if memory {
                find_what_fits(&what, run);
                format!(
                    "{what}. The device has too little memory: `{resume} --auto-batch` finds the most images it takes at once"
                )
            } else if lost {
                format!("{what}. The device was lost: go on with `{resume}`, or on --device cpu")
            } else {
                format!(
                    "{what}. If the device was lost, go on with `{resume}`, or on --device cpu; else report this, with RUST_BACKTRACE=1"
                )
            }
        }
        None if memory => format!("{what}. The device has too little memory: take less at once, or --device cpu"),
        None if lost => format!("{what}. The device was lost: run the command again, or on --device cpu"),
        None => format!(
            "{what}. If the device was lost, run the command again, or on --device cpu; else report this, with RUST_BACKTRACE=1"
        ),
    })
}

/// Begins the program anew to find out how many images the device has memory for, which it tells after `what` in its error: only
/// when this process has ended is the memory that it holds of use again. Returns where the system can't do that.
fn find_what_fits(what: &str, run: Option<PathBuf>) {
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt;
        crate::progress::say("the device has too little memory; finding out how many images it takes at once");
        let mut again = std::process::Command::new(program);
        again.args(std::env::args_os().skip(1)).arg("--fits").arg(what);
        again.args(run.iter().flat_map(|run| ["--run".as_ref(), run.as_os_str()]));
        let _ = again.exec();
    }
    #[cfg(not(unix))]
    let _ = (what, run);
}

/// How to go on with training whose device failed.
pub(super) struct Advice {
    /// The command.
    pub resume: String,
    /// The run directory, where the command line of this process doesn't name it.
    pub run: Option<PathBuf>,
}

type Adviser = Box<dyn Fn() -> Option<Advice> + Send>;

/// Gives advice, if what is being done can be gone on with by now; for [`device_failed`].
static ADVICE: Mutex<Option<Adviser>> = Mutex::new(None);

/// Notes what to go on with, should the device fail.
pub(super) fn advise(adviser: impl Fn() -> Option<Advice> + Send + 'static) {
    *ADVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(adviser));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_gives_one_sentence_and_the_command_that_goes_on() {
        let says = |message: &str| panicked(&message.to_owned()).map(|e| e.to_string());
        let lost = says("Device is lost\ncaused by ..").expect("a failure");
        assert!(lost.contains("Device is lost") && lost.contains("run the command again") && !lost.contains('\n'), "{lost}");
        assert!(!lost.contains("checkpoints"), "nothing was trained");
        // A run that isn't there yet can't be resumed.
        advise(|| None);
        assert!(!says("Device is lost").expect("a failure").contains("--resume"));
        advise(|| Some(Advice { resume: "soda train --resume --run r".into(), run: None }));
        let lost = device_failed(&Error::device("reading the losses", &"Device is lost").to_string()).to_string();
        assert!(lost.contains("reading the losses (Device is lost); checkpoints are intact"), "{lost}");
        assert!(lost.contains("`soda train --resume --run r`"), "{lost}");
        let memory = says("Out of Memory").expect("a failure");
        assert!(memory.contains("too little memory: take less at once"), "{memory}");
        assert!(says("index out of bounds").expect("a failure").contains("RUST_BACKTRACE=1"));
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure_to_print() {
        let printing = |why: &str| panicked(&format!("failed printing to stdout: {why}"));
        assert!(printing("Broken pipe (os error 32)").is_none());
        assert!(printing("No space left on device (os error 28)").expect("a failure").to_string().contains("No space left"));
    }
}
