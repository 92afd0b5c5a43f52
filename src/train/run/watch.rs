//! Messages while the loop is busy: an immediate answer to Ctrl-C, and news of a long first step.

use crate::progress::say;
use crate::units::about;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The interval at which the thread checks for an interrupt.
const EVERY: Duration = Duration::from_millis(100);
/// The interval of messages that the first step isn't done yet.
const SILENCE: Duration = Duration::from_secs(30);
/// The seconds from which on the answer to Ctrl-C names the duration of a step.
const LONG: f64 = 2.0;

/// The current activity of the loop.
pub(super) enum Doing {
    /// Work before the first step, such as a self test.
    Starting,
    /// The first training step of a call.
    FirstStep(u64),
    /// Another step, and the seconds that a step takes.
    Step(u64, Option<f64>),
    /// Saving of a checkpoint after a step.
    Saving(u64),
    /// A picture or scores, as part of a sentence, after a step.
    Work(&'static str, u64),
    /// Writing of the last checkpoint.
    Closing,
}

impl Doing {
    /// Says what is finished after Ctrl-C, as the rest of a sentence.
    fn finishing(&self) -> String {
        match self {
            Self::Starting => "the start and one step, then saving a checkpoint".into(),
            Self::Step(step, Some(seconds)) if *seconds >= LONG => {
                let time = about(Duration::from_secs_f64(*seconds));
                format!("step {step} (one takes {time}), then saving a checkpoint")
            }
            Self::FirstStep(step) | Self::Step(step, _) => {
                format!("step {step}, then saving a checkpoint")
            }
            Self::Saving(step) => format!("the checkpoint of step {step}"),
            Self::Work(what, step) => format!("{what} of step {step}, then saving a checkpoint"),
            Self::Closing => "the checkpoint".into(),
        }
    }
}

/// The thread that writes these messages, until it is dropped.
pub(super) struct Watch {
    doing: Option<mpsc::Sender<Doing>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to watch `interrupt`, and the `limit`: if the first step takes longer, the thread
    /// says that it will be the only one.
    pub fn new(interrupt: &Arc<AtomicBool>, limit: Option<Duration>) -> Self {
        let (doing, changes) = mpsc::channel();
        let interrupt = interrupt.clone();
        let watch = move || watch(&changes, &interrupt, limit, EVERY, SILENCE, say);
        // Without a thread, training works the same, only without these messages.
        let thread = std::thread::Builder::new().name("watch".into()).spawn(watch).ok();
        Self { doing: Some(doing), thread }
    }

    /// Notes what the loop does from now on.
    pub fn doing(&self, what: Doing) {
        if let Some(doing) = &self.doing {
            // Sending fails if the thread couldn't be started.
            let _ = doing.send(what);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.doing.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    changes: &mpsc::Receiver<Doing>,
    interrupt: &AtomicBool,
    mut limit: Option<Duration>,
    every: Duration,
    silence: Duration,
    tell: impl Fn(&str),
) {
    let began = Instant::now();
    // The start of the current activity, and the number of messages about the first step.
    let (mut since, mut told) = (began, 0);
    let mut doing = Doing::Starting;
    let mut answered = false;
    loop {
        match changes.recv_timeout(every) {
            Ok(now) => (doing, since) = (now, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !answered && interrupt.load(Ordering::Relaxed) {
            tell(&format!("finishing {}; Ctrl-C again ends at once", doing.finishing()));
            answered = true;
        }
        if let Doing::FirstStep(_) = doing {
            if limit.take_if(|time| began.elapsed() > *time).is_some() {
                tell(
                    "the first step takes longer than the time limit allows: it will be the only \
                    one",
                );
            }
            if since.elapsed() > silence * (told + 1) {
                told += 1;
                tell(&format!("the first step has taken {} so far", about(silence * told)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn an_interrupt_is_answered_once_and_a_long_first_step_is_reported_now_and_then() {
        let ms = Duration::from_millis;
        let (said, interrupt) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let tell = |line: &str| said.lock().expect("whole").push(line.to_owned());
        let (doing, changes) = mpsc::channel();
        std::thread::scope(|scope| {
            let (interrupt_here, tell) = (&interrupt, &tell);
            scope.spawn(move || watch(&changes, interrupt_here, Some(ms(1)), ms(2), ms(150), tell));
            doing.send(Doing::FirstStep(8)).expect("listens");
            std::thread::sleep(ms(220));
            doing.send(Doing::Step(9, Some(120.0))).expect("listens");
            std::thread::sleep(ms(220));
            interrupt.store(true, Ordering::Relaxed);
            std::thread::sleep(ms(220));
            doing.send(Doing::Closing).expect("listens");
            std::thread::sleep(ms(50));
            drop(doing);
        });
        let said = said.into_inner().expect("whole");
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(
            said[0],
            "the first step takes longer than the time limit allows: it will be the only one"
        );
        assert_eq!(said[1], "the first step has taken less than a second so far");
        assert_eq!(
            said[2],
            "finishing step 9 (one takes about 2 minutes), then saving a checkpoint; Ctrl-C again \
            ends at once"
        );
    }
}
