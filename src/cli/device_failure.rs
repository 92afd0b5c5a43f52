//! The error a user sees when a device fails, with the command that resumes the work.

use crate::cli::terminal::print_error;
use soda::error::{Error, Fault};
use soda::ranks::watch;
use soda::train::saver::is_writing;
use std::any::Any;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A failure of the program.
pub struct Failure {
    error: Error,
    /// The search for a batch size that fits, for a device with too little memory. It runs after
    /// this process has released its memory.
    what_fits: Option<WhatFits>,
}

/// A search for the number of images that fit in memory, run by a separate process.
struct WhatFits {
    /// What happened, for the error message of that process.
    what: String,
    /// The run directory, if the command line of this process doesn't name it.
    run: Option<PathBuf>,
}

impl From<Error> for Failure {
    /// Adds advice if a device failed.
    fn from(error: Error) -> Self {
        match &error {
            Error::Device { fault, .. } => device_failed(&error.to_string(), *fault),
            _ => Self { error, what_fits: None },
        }
    }
}

/// Turns a panic into a failure to report; `None` if there is nobody to report it to (the reader of
/// the output pipe has exited).
pub fn panicked(panic: &(dyn Any + Send)) -> Option<Failure> {
    let message = message(panic);
    if let Some(why) = message.strip_prefix("failed printing to stdout: ") {
        // By number, because the text is localised: a closed pipe on Unix, and its two error codes
        // on Windows.
        let closed = ["(os error 32)", "(os error 109)", "(os error 232)"]
            .iter()
            .any(|code| why.contains(code));
        let unprinted = || Error::failed(format!("the result can't be printed: {why}"));
        return (!closed).then(|| unprinted().into());
    }
    let what = match DEVICE_SAID.get() {
        Some(said) => format!("the device failed ({said})"),
        None => format!("an unexpected failure ({})", first_line(&message)),
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

/// The first panic message from wgpu. An out-of-memory error panics in one of wgpu's own threads,
/// and no other thread sees that panic.
static DEVICE_SAID: OnceLock<String> = OnceLock::new();

/// The time the program has to exit on its own after a device is lost. No other thread sees a panic
/// in one of the device's own threads, and a thread that waits for the device would wait for ever.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same limit while a checkpoint is being written, which needs no device.
const SAVING: Duration = Duration::from_secs(60);

/// Whether a failed device's error is already being reported to the user.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Inspects every panic, in whichever thread it happens.
pub fn overhear(panic: &(dyn Any + Send)) {
    let message = message(panic);
    if Fault::ends_the_device(&message) {
        let said = gist(&message);
        let _ = DEVICE_SAID.set(said.clone());
        // If the thread can't be started, nothing is lost.
        let _ = std::thread::Builder::new().name("end".into()).spawn(move || end(&said));
    } else if message.contains("wgpu") {
        let _ = DEVICE_SAID.set(first_line(&message).to_owned());
    }
}

/// Returns what failed and its deepest cause: the first and the last line of `message`.
fn gist(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines[..] {
        [] => String::new(),
        [only] => only.into(),
        [first, .., last] => format!("{first}: {last}"),
    }
}

/// Ends the program with the error of a lost device, unless it exits on its own.
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
    // Not exit(): the driver's clean-up would wait for the device.
    signal_hook::low_level::exit(1);
}

/// Reports the failure and returns the exit code. If a device has too little memory, this process
/// is replaced by one that finds out how many images fit and reports that too. With several ranks
/// the process ends at once: rank 0 reports, and MPI would wait for the ranks that are gone.
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

/// Returns when the system ends long-running GPU work, and the setting that raises the limit; `os`
/// is [`std::env::consts::OS`].
fn watchdog(os: &str) -> &'static str {
    match os {
        "windows" => " (after 2 s on Windows, where TdrDelay in the registry allows more)",
        "linux" => {
            " (on Intel's i915, preempt_timeout_ms in /sys/class/drm/card*/engine/* allows more)"
        }
        _ => "",
    }
}

/// Adds to `what` happened what a user can do about the failed device.
fn device_failed(what: &str, fault: Fault) -> Failure {
    REPORTED.store(true, Ordering::Relaxed);
    let said = DEVICE_SAID.get().filter(|said| !what.contains(said.as_str()));
    let what = &said.map_or_else(|| what.to_owned(), |said| format!("{what}: {said}"));
    // wgpu's first message, from another thread, says more than the error that followed it.
    let fault = match (fault, Fault::of(what)) {
        (Fault::OutOfMemory | Fault::LeftOut, _) | (_, Fault::Other) => fault,
        (_, by_text) => by_text,
    };
    let advice = ADVICE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Advice { resume, run, smaller }) = advice.and_then(|advice| advice()) else {
        return Error::failed(format!("{what}. {}", without_run(fault))).into();
    };
    let what = format!("{what}; checkpoints are intact");
    // Several processes can't be replaced by another one.
    let searches = !watch::is_on();
    let smaller = smaller.map(|n| format!("`{resume} --set train.micro_batch={n} --allow-change`"));
    let advice = match fault {
        Fault::OutOfMemory if searches => format!(
            "The device has too little memory: `{resume} --auto-batch` finds the largest \
             micro-batch that fits"
        ),
        Fault::OutOfMemory => match smaller {
            Some(smaller) => {
                format!("The device has too little memory: {smaller} uses smaller micro-batches")
            }
            None => "The device has too little memory even for one image at once: train smaller \
                     networks, or on another device"
                .into(),
        },
        Fault::Lost | Fault::LeftOut => {
            let search = match searches {
                true => format!("`{resume} --auto-batch` finds the largest that works, "),
                false => String::new(),
            };
            let less = smaller.map_or(String::new(), |smaller| {
                format!("{smaller} uses smaller micro-batches, {search}")
            });
            format!(
                "{}: {less}`{resume}` resumes unchanged, with --device cpu as a last resort",
                why(fault)
            )
        }
        _ => format!(
            "If the device was lost, resume with `{resume}`, or on --device cpu; otherwise report \
             this, with RUST_BACKTRACE=1"
        ),
    };
    let what_fits =
        (fault == Fault::OutOfMemory && searches).then(|| WhatFits { what: what.clone(), run });
    Failure { error: Error::failed(format!("{what}. {advice}")), what_fits }
}

/// Explains why drivers do that.
fn why(fault: Fault) -> String {
    let watchdog = watchdog(std::env::consts::OS);
    match fault {
        Fault::LeftOut => format!(
            "The device left out work, as some drivers do when it takes too long{watchdog} or \
             needs too much memory"
        ),
        _ => format!("The device was lost, as drivers end work that takes too long{watchdog}"),
    }
}

/// Returns the advice when there is no training run to resume.
fn without_run(fault: Fault) -> String {
    match fault {
        Fault::LeftOut => format!("{}: process less at once, or use --device cpu", why(fault)),
        Fault::OutOfMemory => {
            "The device has too little memory: process less at once, or use --device cpu".into()
        }
        Fault::Lost => format!(
            "{}: run the command again, process less at once, or use --device cpu",
            why(fault)
        ),
        _ => "If the device was lost, run the command again, or on --device cpu; otherwise report \
              this, with RUST_BACKTRACE=1"
            .into(),
    }
}

impl WhatFits {
    /// Replaces this process by one that searches. Returns only if the system can't do that.
    fn find_out(self) {
        #[cfg(unix)]
        if let Ok(program) = std::env::current_exe() {
            use std::os::unix::process::CommandExt;
            soda::progress::say(
                "the device has too little memory; finding out how many images fit at once",
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

/// How to resume training after its device failed.
pub(super) struct Advice {
    /// The command.
    pub resume: String,
    /// The run directory, if the command line of this process doesn't name it.
    pub run: Option<PathBuf>,
    /// Half the current micro-batch; `None` if that is a single image.
    pub smaller: Option<usize>,
}

type Adviser = Box<dyn Fn() -> Option<Advice> + Send>;

/// Returns the advice for [`device_failed`], once there is something to resume.
static ADVICE: Mutex<Option<Adviser>> = Mutex::new(None);

/// Sets how to resume, should the device fail.
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
        // A run that doesn't exist yet can't be resumed.
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
        // A batch that was ended for taking too long would be ended again.
        let before = lost
            .find("`soda train --resume --run r --set train.micro_batch=4 --allow-change`")
            .expect("a smaller size");
        assert!(
            before < lost.find("`soda train --resume --run r`").expect("the same again"),
            "{lost}"
        );
        advise(advice);
        advise(advice);
        let cause = "An IO error happened\nCaused by:\n  can't allocate buffer of size: 5000000000";
        let memory = Failure::from(Error::device("computing step 4", &cause)).error.to_string();
        assert!(
            memory.contains("too little memory") && memory.contains("--auto-batch"),
            "{memory}"
        );
        advise(advice);
        let silent = Error::left_out("counting", "work was silently left out");
        let silent = Failure::from(silent).error.to_string();
        assert!(
            silent.contains("left out work") && silent.contains("train.micro_batch=4"),
            "{silent}"
        );
        let memory = says("Out of Memory").expect("a failure");
        assert!(memory.contains("too little memory: process less at once"), "{memory}");
        assert!(says("index out of bounds").expect("a failure").contains("RUST_BACKTRACE=1"));
    }

    #[test]
    fn the_loss_of_a_device_that_a_thread_waits_for_is_reported() {
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
    fn a_closed_pipe_is_no_failure_and_other_print_errors_are() {
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
