//! Ctrl-C and SIGTERM.

use signal_hook::flag;
use soda::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What Ctrl-C (and SIGTERM) do: the first one asks the run to end with a checkpoint, a second one
/// ends it at once.
pub struct Interrupt {
    /// Set by the first one.
    pub stop: Arc<AtomicBool>,
    /// Once set, Ctrl-C ends the program as if nobody listened.
    pub let_go: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let (stop, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Those registered first act first: the shutdown sees a flag that only an earlier
            // signal has set.
            flag::register_conditional_default(signal, let_go.clone())
                .and_then(|_| flag::register_conditional_shutdown(signal, 130, stop.clone()))
                .and_then(|_| flag::register(signal, stop.clone()))
                .map_err(|e| Error::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        }
        // A terminal that is closed ends no training.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGHUP, Arc::default())
            .map_err(|e| Error::failed(format!("cannot listen for SIGHUP: {e}")))?;
        Ok(Self { stop, let_go })
    }
}
