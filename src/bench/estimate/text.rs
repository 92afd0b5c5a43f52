//! Estimates as text for a terminal of 100 columns.

use super::super::table::{columns, digits, header, percent, time};
use super::card::{Assumed, Card};
use super::check::WidthCheck;
use super::{Estimate, KernelEstimate};
use crate::units::{bytes, grouped};
use std::fmt::Write;

/// The number of kernels that are listed individually.
const TOP: usize = 15;

fn ends([fast, slow]: [f64; 2], format: impl Fn(f64) -> String) -> String {
    let (fast, slow) = (format(fast), format(slow));
    if fast == slow { fast } else { format!("{fast} - {slow}") }
}

/// Formats a share as a whole number of per cent.
fn whole(share: f64) -> String {
    format!("{:.0}", 100.0 * share)
}

/// Formats an estimated step: its inputs, the step, its kernels.
pub fn step(estimate: &Estimate, card: &Card, assumed: &Assumed, what: &str) -> String {
    let mut out = format!("An estimate, nothing measured: {what} on {}\n", card.name);
    let compiler = card
        .compiler
        .as_deref()
        .map_or("over all compilers".to_owned(), |name| format!("from the compiler for {name}"));
    let _ = writeln!(
        out,
        "  peak {} TFLOPS, {} GB/s: {}",
        digits(card.tflops),
        digits(card.gb_per_s),
        card.sources.join(", ")
    );
    let _ = writeln!(out, "  share of multiply-adds {compiler}");
    if let Some(tflops) = card.matrix_tflops {
        let _ = writeln!(
            out,
            "  in mixed precision: matrix units of {} TFLOPS, with the utilisation that NAK's code \
             allows",
            digits(tflops)
        );
    }
    let _ = writeln!(
        out,
        "  assumed: {} % of the peak times that share, {} % of the bandwidth, {} us per launch",
        ends([assumed.arithmetic[1], assumed.arithmetic[0]], whole),
        ends([assumed.bandwidth[1], assumed.bandwidth[0]], whole),
        ends(assumed.launch_us, digits)
    );
    let _ = writeln!(
        out,
        "step {}, {} images/s, {} launches, {} of live tensors",
        ends(estimate.step_ms, time),
        ends([estimate.images_per_s[1], estimate.images_per_s[0]], digits),
        grouped(estimate.launches),
        bytes(estimate.live_bytes as f64)
    );
    let [arithmetic, memory, launching] = estimate.limits_ms.map(|ms| ends(ms, time));
    let _ = writeln!(
        out,
        "  arithmetic alone {arithmetic}, memory alone {memory}, launches alone {launching}"
    );
    if let Some(memory) = card.memory_gb
        && estimate.live_bytes as f64 > 1e9 * memory
    {
        let _ =
            writeln!(out, "  more than the card's {} GB: set train.micro_batch", digits(memory));
    }
    let mut lines = vec![header(&["", "launches", "GFLOP", "GB", "multiply-adds %", "time"])];
    let row = |kernel: &KernelEstimate| {
        let share =
            kernel.share.map_or_else(|| "-".into(), |share| ends([share[1], share[0]], whole));
        let gflop = if kernel.gflop > 0.0 { digits(kernel.gflop) } else { "-".into() };
        vec![
            kernel.name.clone(),
            grouped(kernel.launches),
            gflop,
            digits(kernel.gb),
            share,
            ends(kernel.ms, time),
        ]
    };
    lines.extend(estimate.kernels.iter().take(TOP).map(row));
    if let rest @ [_, ..] = estimate.kernels.get(TOP..).unwrap_or(&[]) {
        let of = |end: usize| rest.iter().map(|kernel| kernel.ms[end]).sum();
        let launches = rest.iter().map(|kernel| kernel.launches).sum();
        lines.push(vec![
            format!("{} others", rest.len()),
            grouped(launches),
            "".into(),
            "".into(),
            "".into(),
            ends([of(0), of(1)], time),
        ]);
    }
    out + &columns(&lines)
}

/// Formats estimates next to measurements.
pub fn checks(checks: &[WidthCheck]) -> String {
    let mut out = String::new();
    for check in checks {
        let what = if check.tuned { "shares measured here" } else { "estimated with those shares" };
        let ratio = |estimated: f64, measured: f64| {
            if measured > 0.0 { digits(estimated / measured) } else { "-".into() }
        };
        let _ = writeln!(
            out,
            "width {}, {what}: estimated {}, measured {}, ratio {}",
            check.width,
            time(check.estimated_ms),
            time(check.measured_ms),
            ratio(check.estimated_ms, check.measured_ms)
        );
        if check.live_bytes > 0 {
            let (live, used) = (bytes(check.live_bytes as f64), bytes(check.used_bytes as f64));
            let _ = writeln!(out, "  live tensors: counted {live}, used {used}");
        }
        let mut lines = vec![header(&["", "launches", "estimated", "measured", "ratio", "of all"])];
        lines.extend(check.kernels.iter().take(TOP).map(|kernel| {
            let [recorded, made] = kernel.launches;
            let launches =
                if recorded == made { grouped(made) } else { format!("{recorded}, made {made}") };
            let times = [kernel.estimated_ms, kernel.measured_ms].map(time);
            let ratio = ratio(kernel.estimated_ms, kernel.measured_ms);
            let [estimated, measured] = times;
            vec![kernel.name.clone(), launches, estimated, measured, ratio, percent(kernel.part)]
        }));
        out.push_str(&columns(&lines));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::estimate::card;

    #[test]
    fn an_estimate_is_labelled_as_such_and_lists_its_inputs() {
        let kernel = KernelEstimate {
            name: "conv2d forward".into(),
            launches: 97,
            gflop: 5000.0,
            gb: 12.0,
            share: Some([0.9, 0.8]),
            ms: [170.0, 360.0],
        };
        let estimate = Estimate {
            kernels: vec![kernel; 17],
            limits_ms: [[4.0, 8.0], [2.0, 3.0], [1.0, 2.0]],
            step_ms: [500.0, 1000.0],
            images_per_s: [512.0, 256.0],
            launches: 2700,
            live_bytes: 20 << 30,
        };
        let cards = card::known().expect("the file");
        let text = step(&estimate, &cards.cards["rtx3060"], &cards.assumed, "a step");
        for part in [
            "An estimate, nothing measured: a step on NVIDIA",
            "12.7 TFLOPS",
            "https://",
            "500 ms - 1.00 s",
            "256 - 512 images/s",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(
            text.contains("set train.micro_batch")
                && text.contains("80 - 90")
                && text.contains("multiply-adds %")
                && text.contains("2 others"),
            "{text}"
        );
        let text = step(&estimate, &cards.cards["a40"], &cards.assumed, "a step");
        assert!(!text.contains("micro_batch"), "{text}");
    }
}
