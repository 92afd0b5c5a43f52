//! Handling of Ctrl-C and SIGTERM.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use soda::error::{Error, Result};
use soda::files::remove_unfinished;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Signals that arrive within this time of the first one count as the same: `timeout` and others
/// signal a process and then its group.
const TOGETHER: Duration = Duration::from_millis(300);
/// The interval at which the thread checks for the first signal.
const EVERY: Duration = Duration::from_millis(50);

/// The state of Ctrl-C and SIGTERM: the first signal asks the run to end with a checkpoint, a
/// later one ends the program at once.
pub struct Interrupt {
    /// Set by the first signal.
    pub stop: Arc<AtomicBool>,
    /// Set to give signals their default effect again: Ctrl-C then ends the program.
    pub let_go: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts listening for the signals.
    pub fn listen() -> Result<Self> {
        let [stop, armed, let_go] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, let_go.clone())
                .and_then(|_| flag::register_conditional_shutdown(signal, 130, armed.clone()))
                .and_then(|_| flag::register(signal, stop.clone()))
                .map_err(|e| Error::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        }
        after(stop.clone(), move || {
            std::thread::sleep(TOGETHER);
            armed.store(true, Relaxed);
        })?;
        // Training continues when the terminal is closed.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGHUP, Arc::default())
            .map_err(|e| Error::failed(format!("cannot listen for SIGHUP: {e}")))?;
        Ok(Self { stop, let_go })
    }
    /// Makes the first signal end the program, after what it was writing is removed.
    pub fn end_tidily() -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, stop.clone())
                .map_err(|e| Error::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        }
        after(stop, || {
            remove_unfinished();
            std::process::exit(130);
        })
    }
}

/// Calls `act` in a thread of its own once `signalled` is set.
fn after(signalled: Arc<AtomicBool>, act: impl FnOnce() + Send + 'static) -> Result<()> {
    let wait = move || {
        while !signalled.load(Relaxed) {
            std::thread::sleep(EVERY);
        }
        act();
    };
    let thread = std::thread::Builder::new().name("interrupt".into()).spawn(wait);
    thread.map(drop).map_err(|e| Error::failed(format!("cannot start a thread: {e}")))
}
