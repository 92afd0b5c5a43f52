//! Memory-bound kernels: the bytes that the GPU shaders move, relative to the minimum.

use crate::common::wgpu;
use soda::device::Class;
use soda::kernels::ada_gn::AdaGnOperation;
use soda::kernels::adamw::AdamWOperation;
use soda::kernels::batch_norm::BatchNormOperation;
use soda::kernels::catalog::{Operation, Suite, cases};
use soda::kernels::concat::ConcatOperation;
use soda::kernels::testing::with_class;
use soda::kernels::traffic::counted;
use std::collections::BTreeMap;

/// The most bytes that a kernel may move in any case, as a multiple of the minimum. The ratio is
/// highest for small maps, because of what every invocation reads once before its pixels.
const MOST: [(&str, f64); 9] = [
    ("ada_gn_forward", 2.0),
    ("ada_gn_backward", 3.0),
    ("ada_gn_parameters", 2.0),
    ("batch_norm_moments", 1.2),
    ("batch_norm_apply", 1.5),
    ("batch_norm_sums", 1.5),
    ("batch_norm_backward", 1.5),
    ("concat", 1.01),
    ("adamw", 1.01),
];

/// Also writes the table as JSON to the file that SODA_TRAFFIC names, if set.
#[test]
fn shaders_move_little_more_than_the_minimum_of_bytes() {
    let operations: [&dyn Operation; 4] =
        [&AdaGnOperation, &BatchNormOperation, &ConcatOperation, &AdamWOperation];
    let device = wgpu();
    let mut all = Vec::new();
    for suite in [Suite::SelfTest, Suite::Bench { batch: 2 }] {
        for case in cases(&operations, suite) {
            let moved = counted(|| {
                with_class(Class::Gpu, || case.results(&device).expect("the device works"));
            });
            all.extend(moved.into_iter().map(|moved| (case.name(), moved)));
        }
    }
    if let Some(path) = std::env::var_os("SODA_TRAFFIC") {
        let rows: Vec<_> = all
            .iter()
            .map(|(case, m)| {
                serde_json::json!({
                    "case": case, "kernel": m.kernel, "variant": m.variant,
                    "bytes": m.bytes, "fewest": m.fewest,
                })
            })
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows).expect("JSON") + "\n")
            .expect("written");
    }
    let mut most = BTreeMap::<&str, f64>::new();
    for (name, moved) in &all {
        let ratio = moved.bytes / moved.fewest;
        let highest = most.entry(moved.kernel).or_default();
        *highest = highest.max(ratio);
        assert!(
            ratio > 0.5,
            "{name}: only {} of {} bytes were counted: {moved:?}",
            moved.bytes,
            moved.fewest
        );
    }
    for (kernel, limit) in MOST {
        let found = most.get(kernel).unwrap_or_else(|| panic!("{kernel} wasn't launched"));
        assert!(
            *found <= limit,
            "{kernel} moves {found:.3} times the minimum of bytes, more than {limit}: {most:?}"
        );
    }
}
