//! The program: parse, run, print the error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Burn and wgpu panic where a device is lost or runs out of memory: that is caught here, at the edge, and told in one line.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let error = match catch_unwind(AssertUnwindSafe(soda::cli::run)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(panic) => soda::cli::device_failure(panic.as_ref()),
    };
    eprintln!("error: {error}");
    ExitCode::from(error.exit_code())
}
