//! The program: parse, run, print the error.

mod cli;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    without_window_system();
    // Burn and wgpu panic where a device is lost or runs out of memory: that is caught here, at the
    // edge, and told in one line.
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

/// In a container or a service there is no window system; Mesa's layer that asks it for the
/// preferred GPU then prints an alarming line for each adapter list. The layer is told to stay out.
#[allow(unsafe_code)]
fn without_window_system() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first statement of the program; no other thread reads or writes the
        // environment yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
