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
        let watch = move || watch(&changes, &interrupt, limit);
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

/// What the thread knows of the loop, and has said.
struct State {
    /// The start of the call, and of the current activity.
    began: Instant,
    since: Instant,
    doing: Doing,
    /// The time limit, until it is found that the first step takes longer.
    limit: Option<Duration>,
    /// The number of messages about the first step.
    told: u32,
    /// Whether the interrupt has been answered.
    answered: bool,
}

impl State {
    fn new(now: Instant, limit: Option<Duration>) -> Self {
        let doing = Doing::Starting;
        Self { began: now, since: now, doing, limit, told: 0, answered: false }
    }

    /// Returns what is to be said at `now`.
    fn messages(&mut self, now: Instant, interrupted: bool) -> Vec<String> {
        let mut messages = Vec::new();
        if interrupted && !self.answered {
            self.answered = true;
            let finishing = self.doing.finishing();
            messages.push(format!("finishing {finishing}; Ctrl-C again ends at once"));
        }
        if let Doing::FirstStep(_) = self.doing {
            if self.limit.take_if(|limit| now - self.began > *limit).is_some() {
                messages.push(
                    "the first step takes longer than the time limit allows: it will be the only \
                     one"
                    .into(),
                );
            }
            if now - self.since > SILENCE * (self.told + 1) {
                self.told += 1;
                let time = about(SILENCE * self.told);
                messages.push(format!("the first step has taken {time} so far"));
            }
        }
        messages
    }
}

fn watch(changes: &mpsc::Receiver<Doing>, interrupt: &AtomicBool, limit: Option<Duration>) {
    let mut state = State::new(Instant::now(), limit);
    loop {
        match changes.recv_timeout(EVERY) {
            Ok(doing) => (state.doing, state.since) = (doing, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let messages = state.messages(Instant::now(), interrupt.load(Ordering::Relaxed));
        messages.iter().for_each(|message| say(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_answered_once_and_a_long_first_step_is_reported_now_and_then() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut state = State::new(start, Some(Duration::from_secs(70)));
        let none = [""; 0];
        assert_eq!(state.messages(at(200), false), none, "it hasn't begun to train");
        (state.doing, state.since) = (Doing::FirstStep(8), at(20));
        assert_eq!(state.messages(at(49), false), none);
        assert_eq!(
            state.messages(at(51), false),
            ["the first step has taken about 30 seconds so far"]
        );
        assert_eq!(
            state.messages(at(71), false),
            ["the first step takes longer than the time limit allows: it will be the only one"]
        );
        assert_eq!(
            state.messages(at(81), false),
            ["the first step has taken about 60 seconds so far"]
        );
        (state.doing, state.since) = (Doing::Step(9, Some(120.0)), at(90));
        assert_eq!(state.messages(at(900), false), none);
        assert_eq!(
            state.messages(at(901), true),
            [
                "finishing step 9 (one takes about 2 minutes), then saving a checkpoint; Ctrl-C again \
              ends at once"
            ]
        );
        assert_eq!(state.messages(at(902), true), none);
    }
}
