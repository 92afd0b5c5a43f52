//! Handling of Ctrl-C and SIGTERM.

use signal_hook::flag;
use soda::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The state of Ctrl-C and SIGTERM: the first signal asks the run to end with a checkpoint, a
/// second one ends the program at once.
pub struct Interrupt {
    /// Set by the first signal.
    pub stop: Arc<AtomicBool>,
    /// Once set, Ctrl-C ends the program as by default.
    pub let_go: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts to listen for the signals.
    pub fn listen() -> Result<Self> {
        let (stop, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Handlers run in the order of registration, so the shutdown sees the flag only if an
            // earlier signal set it.
            flag::register_conditional_default(signal, let_go.clone())
                .and_then(|_| flag::register_conditional_shutdown(signal, 130, stop.clone()))
                .and_then(|_| flag::register(signal, stop.clone()))
                .map_err(|e| Error::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        }
        // Closing the terminal does not end training.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGHUP, Arc::default())
            .map_err(|e| Error::failed(format!("cannot listen for SIGHUP: {e}")))?;
        Ok(Self { stop, let_go })
    }
}
