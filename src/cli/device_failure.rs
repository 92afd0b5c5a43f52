//! What a user is told when a device fails, and the command that continues.

use crate::cli::terminal::print_error;
use soda::error::{Error, Fault};
use soda::ranks::watch;
use soda::train::saver::is_writing;
use std::any::Any;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How the program fails.
pub struct Failure {
    error: Error,
    /// What can still be found out about a device with too little memory, once this process has
    /// given its memory back.
    what_fits: Option<WhatFits>,
}

/// How many images fit, to be found out by a process of its own.
struct WhatFits {
    /// What happened, for the error of that process.
    what: String,
    /// The run directory, where the command line of this process doesn't name it.
    run: Option<PathBuf>,
}

impl From<Error> for Failure {
    /// Adds advice where a device failed.
    fn from(error: Error) -> Self {
        match &error {
            Error::Device { fault, .. } => device_failed(&error.to_string(), *fault),
            _ => Self { error, what_fits: None },
        }
    }
}

/// What a panic comes to for a user; `None` where nobody is left to tell (the reader of a pipe has
/// gone).
pub fn panicked(panic: &(dyn Any + Send)) -> Option<Failure> {
    let message = message(panic);
    if let Some(why) = message.strip_prefix("failed printing to stdout: ") {
        // By number, as it is called otherwise in each language: a closed pipe on Unix, and two
        // names for it on Windows.
        let closed = ["(os error 32)", "(os error 109)", "(os error 232)"]
            .iter()
            .any(|code| why.contains(code));
        let unprinted = || Error::failed(format!("what was found can't be printed: {why}"));
        return (!closed).then(|| unprinted().into());
    }
    let what = match DEVICE_SAID.get() {
        Some(said) => format!("the device failed ({said})"),
        None => format!("something failed that should not ({})", first_line(&message)),
    };
    Some(device_failed(&what, Fault::of(&what)))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().cloned();
    message
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "no message".into())
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// What wgpu said first in a thread of its own, where a lack of memory becomes a panic that nobody
/// else hears of.
static DEVICE_SAID: OnceLock<String> = OnceLock::new();

/// How long the program has to end by itself once a device was lost. A panic in a thread of the
/// device's own is heard of by nobody else, and who waits for the device would wait for ever.
const PATIENCE: Duration = Duration::from_secs(3);
/// And with a checkpoint that is being written, which needs no device.
const SAVING: Duration = Duration::from_secs(60);

/// Whether the error of a failed device is on its way to the user.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Looks at every panic, wherever it happens.
pub fn overhear(panic: &(dyn Any + Send)) {
    let message = message(panic);
    if Fault::ends_the_device(&message) {
        let said = gist(&message);
        let _ = DEVICE_SAID.set(said.clone());
        // Without a thread nothing is worse than before.
        let _ = std::thread::Builder::new().name("end".into()).spawn(move || end(&said));
    } else if message.contains("wgpu") {
        let _ = DEVICE_SAID.set(first_line(&message).to_owned());
    }
}

/// What failed, and the deepest cause of it: the first and the last line.
fn gist(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines[..] {
        [] => String::new(),
        [only] => only.into(),
        [first, .., last] => format!("{first}: {last}"),
    }
}

/// Ends the program with the error of a lost device, unless it ends by itself.
fn end(said: &str) {
    let clock = Instant::now();
    while clock.elapsed() < PATIENCE || (is_writing() && clock.elapsed() < SAVING) {
        std::thread::sleep(Duration::from_millis(100));
    }
    if REPORTED.load(Ordering::Relaxed) {
        std::thread::sleep(PATIENCE);
    } else {
        let what = format!("the device failed ({said})");
        finish(device_failed(&what, Fault::of(&what)));
    }
    // Not exit(): a driver's clean-up would wait for the device.
    signal_hook::low_level::exit(1);
}

/// Tells how the program fails, and returns its exit code. Where a device has too little memory,
/// this process is replaced by one that finds out how many images fit and tells that, too. With
/// several ranks it ends at once: rank 0 tells, and MPI would wait for those that are gone.
pub fn finish(failure: Failure) -> u8 {
    let Failure { error, what_fits } = failure;
    if let Some(what_fits) = what_fits {
        what_fits.find_out();
    }
    if !watch::fail(&error) {
        print_error(&error.to_string());
    }
    if watch::is_on() {
        signal_hook::low_level::exit(i32::from(error.exit_code()));
    }
    error.exit_code()
}

/// What the system does with work that takes long, and the setting that allows more of it; `os` as
/// [`std::env::consts::OS`].
fn watchdog(os: &str) -> &'static str {
    match os {
        "windows" => " (after 2 s on Windows, where TdrDelay in the registry allows more)",
        "linux" => {
            " (on Intel's i915 preempt_timeout_ms in /sys/class/drm/card*/engine/* allows more)"
        }
        _ => "",
    }
}

/// What a user can do about a device that failed, added to `what` happened.
fn device_failed(what: &str, fault: Fault) -> Failure {
    REPORTED.store(true, Ordering::Relaxed);
    let said = DEVICE_SAID.get().filter(|said| !what.contains(said.as_str()));
    let what = &said.map_or_else(|| what.to_owned(), |said| format!("{what}: {said}"));
    // What wgpu said first, in another thread, tells more than the error that followed.
    let fault = if fault == Fault::LeftOut { fault } else { Fault::of(what) };
    let advice = ADVICE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Advice { resume, run, smaller }) = advice.and_then(|advice| advice()) else {
        return Error::failed(format!("{what}. {}", without_run(fault))).into();
    };
    let what = format!("{what}; checkpoints are intact");
    // Several processes are not begun anew.
    let searches = !watch::is_on();
    let smaller = smaller.map(|n| format!("`{resume} --set train.micro_batch={n} --allow-change`"));
    let advice = match fault {
        Fault::OutOfMemory if searches => format!(
            "The device has too little memory: `{resume} --auto-batch` finds the most images it takes at once"
        ),
        Fault::OutOfMemory => format!(
            "The device has too little memory: {} gives it less at once",
            smaller.unwrap_or_else(|| format!("`{resume}`"))
        ),
        Fault::Lost | Fault::LeftOut => {
            let search = match searches {
                true => format!("`{resume} --auto-batch` finds out how much it takes, "),
                false => String::new(),
            };
            let less = smaller.map_or(String::new(), |smaller| {
                format!("{smaller} gives it less at once, {search}")
            });
            format!(
                "{}: {less}`{resume}` goes on as before, on --device cpu if all else fails",
                why(fault)
            )
        }
        _ => format!(
            "If the device was lost, go on with `{resume}`, or on --device cpu; else report this, with RUST_BACKTRACE=1"
        ),
    };
    let what_fits =
        (fault == Fault::OutOfMemory && searches).then(|| WhatFits { what: what.clone(), run });
    Failure { error: Error::failed(format!("{what}. {advice}")), what_fits }
}

/// Why drivers do that.
fn why(fault: Fault) -> String {
    let watchdog = watchdog(std::env::consts::OS);
    match fault {
        Fault::LeftOut => format!(
            "The device left out work, as some do with what takes too long{watchdog} or needs too much memory"
        ),
        _ => format!("The device was lost, as drivers end work that takes too long{watchdog}"),
    }
}

/// The advice where no training can be continued.
fn without_run(fault: Fault) -> String {
    match fault {
        Fault::LeftOut => format!("{}: take less at once, or --device cpu", why(fault)),
        Fault::OutOfMemory => {
            "The device has too little memory: take less at once, or --device cpu".into()
        }
        Fault::Lost => {
            format!("{}: run the command again, take less at once, or --device cpu", why(fault))
        }
        _ => "If the device was lost, run the command again, or on --device cpu; else report this, with RUST_BACKTRACE=1".into(),
    }
}

impl WhatFits {
    /// Replaces this process by one that searches. Returns where the system can't do that.
    fn find_out(self) {
        #[cfg(unix)]
        if let Ok(program) = std::env::current_exe() {
            use std::os::unix::process::CommandExt;
            soda::progress::say(
                "the device has too little memory; finding out how many images it takes at once",
            );
            let mut again = std::process::Command::new(program);
            again.args(std::env::args_os().skip(1)).arg("--fits").arg(self.what);
            again.args(self.run.iter().flat_map(|run| ["--run".as_ref(), run.as_os_str()]));
            let _ = again.exec();
        }
        #[cfg(not(unix))]
        let _ = (self.what, self.run);
    }
}

/// How to go on with training whose device failed.
pub(super) struct Advice {
    /// The command.
    pub resume: String,
    /// The run directory, where the command line of this process doesn't name it.
    pub run: Option<PathBuf>,
    /// Half as many images as go through the networks at once now; none where that is one.
    pub smaller: Option<usize>,
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
        let says = |message: &str| panicked(&message.to_owned()).map(|f| f.error.to_string());
        let lost = says("Device is lost\ncaused by ..").expect("a failure");
        assert!(
            lost.contains("Device is lost")
                && lost.contains("run the command again")
                && !lost.contains('\n'),
            "{lost}"
        );
        assert!(!lost.contains("checkpoints"), "nothing was trained");
        // A run that isn't there yet can't be resumed.
        advise(|| None);
        assert!(!says("Device is lost").expect("a failure").contains("--resume"));
        let advice = || {
            Some(Advice {
                resume: "soda train --resume --run r".into(),
                run: None,
                smaller: Some(4),
            })
        };
        advise(advice);
        let lost =
            Failure::from(Error::device("reading the losses", &"Device is lost")).error.to_string();
        assert!(
            lost.contains("reading the losses (Device is lost); checkpoints are intact"),
            "{lost}"
        );
        assert!(lost.contains("`soda train --resume --run r`"), "{lost}");
        // A size that is ended for its time would be ended again.
        let before = lost
            .find("`soda train --resume --run r --set train.micro_batch=4 --allow-change`")
            .expect("a smaller size");
        assert!(
            before < lost.find("`soda train --resume --run r`").expect("the same again"),
            "{lost}"
        );
        advise(advice);
        let silent = Error::left_out("counting", "work was silently left out");
        let silent = Failure::from(silent).error.to_string();
        assert!(
            silent.contains("left out work") && silent.contains("train.micro_batch=4"),
            "{silent}"
        );
        let memory = says("Out of Memory").expect("a failure");
        assert!(memory.contains("too little memory: take less at once"), "{memory}");
        assert!(says("index out of bounds").expect("a failure").contains("RUST_BACKTRACE=1"));
    }

    #[test]
    fn a_device_that_is_lost_while_it_is_waited_for_is_heard_of() {
        let poll =
            "Error in Device::poll: Validation Error\n\nCaused by:\n  Parent device is lost\n";
        assert_eq!(gist(poll), "Error in Device::poll: Validation Error: Parent device is lost");
        assert!(
            watchdog("windows").contains("TdrDelay")
                && watchdog("linux").contains("preempt_timeout_ms")
        );
        assert_eq!(watchdog("macos"), "");
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure_to_print() {
        let printing = |why: &str| panicked(&format!("failed printing to stdout: {why}"));
        assert!(printing("Broken pipe (os error 32)").is_none());
        assert!(
            printing("No space left on device (os error 28)")
                .expect("a failure")
                .error
                .to_string()
                .contains("No space left")
        );
    }
}
