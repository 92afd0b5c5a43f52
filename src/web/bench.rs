//! The page's benchmark: this program's kernels on the visitor's GPU, compared with a copy and
//! multiply-adds.

use crate::bench::kernels::timed;
use crate::bench::peaks;
use crate::bench::row::Place;
use crate::error::Result;
use crate::kernels::ada_gn::AdaGnOperation;
use crate::kernels::attention::AttentionOperation;
use crate::kernels::catalog::Operation;
use crate::kernels::conv2d::Conv2dOperation;
use crate::kernels::plan::Recorder;
use burn::tensor::Device;
use serde_json::{Value, json};

/// The batch size, the one that `soda bench` uses on a CPU, which also fits a small GPU.
const BATCH: usize = 16;

/// Records the cases of the benchmark, forward and backward, as passes of `recorder`; returns a
/// description of each with its bytes and operations.
///
/// # Errors
/// If WebGPU would refuse a launch.
pub fn record(recorder: &mut Recorder, device: &Device) -> Result<Value> {
    let [(copy, bytes), (multiply_add, operations)] = peaks::record(recorder, device)?;
    let kernels: [&dyn Operation; 3] = [&AdaGnOperation, &AttentionOperation, &Conv2dOperation];
    let mut cases = Vec::new();
    for (i, timed) in timed(&kernels, BATCH).into_iter().enumerate() {
        let (pass, row, work) =
            (format!("bench_{i}"), timed.row(&Place::default()), timed.pass.work);
        timed.record(recorder, &pass, device)?;
        let (bytes, operations) = (work.bytes, work.operations);
        cases.push(json!({
            "op": row.op, "shape": row.shape, "variant": row.variant, "pass": pass, "bytes": bytes, "operations": operations
        }));
    }
    Ok(json!({
        "copy": { "op": "copy", "shape": copy, "variant": null, "pass": "copy", "bytes": bytes, "operations": 0 },
        "multiply_add": {
            "op": "multiply_add", "shape": multiply_add, "variant": "in registers", "pass": "multiply_add", "bytes": 0,
            "operations": operations
        },
        "cases": cases,
    }))
}
