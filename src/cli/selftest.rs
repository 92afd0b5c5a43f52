//! `soda selftest`

use super::Common;
use super::output::Output;
use crate::device;
use crate::error::Result;
use crate::kernels::catalog::operations;
use crate::selftest;
use serde_json::json;
use std::time::Instant;

/// Tests every kernel on the device of `common` against the CPU backend.
pub fn run(common: &Common) -> Result<()> {
    let mut output = Output::new("selftest");
    let device = device::select(&common.device)?;
    outln!("{}", device.describe());
    let clock = Instant::now();
    let mut seen = Vec::new();
    let outcome = selftest::run(operations(), &device, |o, total| {
        let verdict = if o.passed() { "right" } else { "WRONG" };
        seen.push(o.clone());
        let number = format!("{}/{total}", seen.len());
        outln!("{number:>6}  {verdict}  {:16} {:44} error {:.3} of what is tolerated ({})", o.kernel, o.size, o.worst, o.of);
    });
    output.device(&device);
    output.set("passed", json!(outcome.is_ok()));
    output.set("cases", json!(seen));
    output.write(common)?;
    outcome?;
    outln!("all {} kernels are right, {:.1} s", seen.len(), clock.elapsed().as_secs_f64());
    Ok(())
}
