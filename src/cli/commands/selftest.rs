//! `soda selftest`: tests of every kernel on a device.

use crate::cli::args::Common;
use crate::cli::device;
use crate::cli::output::Output;
use serde_json::json;
use soda::error::Result;
use soda::selftest::{self, Outcome};
use std::time::Instant;

/// Tests every kernel on the device of `common` against the CPU backend.
pub fn run(common: &Common) -> Result<()> {
    let mut output = Output::new("selftest");
    let device = device::selected(common)?;
    outln!("{}", device.describe());
    let clock = Instant::now();
    let mut seen = Vec::new();
    let outcome = selftest::whole(&device, |o, total| {
        seen.push(o.clone());
        let number = format!("{}/{total}", seen.len());
        outln!("{number:>6}  {:16} {:44} {}", o.kernel, o.size, verdict(o));
    });
    output.device(&device);
    output.set("passed", json!(outcome.is_ok()));
    output.set("cases", json!(seen));
    output.set("flops", json!(outcome.as_ref().ok().and_then(|found| found.speed)));
    output.write(common)?;
    selftest::passed_by(&device, &outcome?);
    outln!("all {} cases passed, {:.1} s", seen.len(), clock.elapsed().as_secs_f64());
    Ok(())
}

/// Formats an outcome as "ok, 1.1 % of tolerance (x gradient)".
fn verdict(outcome: &Outcome) -> String {
    let word = match outcome {
        o if o.passed() => "ok",
        o if o.warns => "harmless",
        _ => "FAIL",
    };
    let of = outcome.of.strip_prefix("the ").unwrap_or(&outcome.of);
    let of =
        of.strip_prefix("gradient of ").map_or(of.to_owned(), |input| format!("{input} gradient"));
    let share = if outcome.worst.is_finite() {
        format!("{:.1} % of tolerance", 100.0 * outcome.worst)
    } else {
        "not finite".into()
    };
    format!("{word}, {share} ({of})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_give_the_error_in_per_cent_of_the_tolerance() {
        let of = |worst: f32, of: &str| {
            verdict(&Outcome {
                kernel: "conv2d",
                size: String::new(),
                worst,
                of: of.into(),
                milliseconds: 1.0,
                warns: false,
            })
        };
        assert_eq!(of(0.011, "the gradient of x"), "ok, 1.1 % of tolerance (x gradient)");
        assert_eq!(of(1.0, "the value"), "ok, 100.0 % of tolerance (value)");
        assert_eq!(of(2.5, "the running mean"), "FAIL, 250.0 % of tolerance (running mean)");
        assert_eq!(of(f32::INFINITY, "nothing"), "FAIL, not finite (nothing)");
    }
}
