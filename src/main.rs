//! The program: parses the command line, runs the command and prints its error.

mod cli;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    without_window_system();
    // Burn and wgpu panic when a device is lost or runs out of memory. The panic is caught here and
    // reported in one line.
    let (aloud, print) = (std::env::var_os("RUST_BACKTRACE").is_some(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        cli::overhear(panic.payload());
        if aloud {
            print(panic);
        }
    }));
    let failure = match catch_unwind(AssertUnwindSafe(cli::run)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure,
        Err(panic) => match cli::panicked(panic.as_ref()) {
            Some(failure) => failure,
            None => return ExitCode::SUCCESS,
        },
    };
    ExitCode::from(cli::finish(failure))
}

/// Disables Mesa's device-select layer where there is no window system, as in containers and
/// services: the layer asks the window system for the preferred GPU, and prints an alarming line
/// for each adapter list when there is none.
#[allow(unsafe_code)]
fn without_window_system() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the first statement of the program; no other thread reads or writes the
        // environment yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
