//! `soda bench --suite step` in several processes

use crate::cli::args::Common;
use crate::cli::device;
use crate::cli::output::Output;
use serde_json::json;
use soda::bench::ranks::measure as measured;
use soda::error::Result;
use soda::machine;
use soda::ranks::{Ranks, watch};
use soda::train::exchange::{Among, Spent, Wire};

/// Measures steps of all processes that were started together.
pub fn run(ranks: Ranks, common: &Common, mut output: Output) -> Result<()> {
    watch::begin(&ranks, || false)?;
    let device = device::chosen_nth(common, ranks.place().local)?;
    let devices = ranks.gather(device.describe().into_bytes())?;
    let among = Among { ranks, shares: None, wire: Wire::F32, resume: String::new() };
    let rows = measured(&among, &device)?;
    if among.ranks.rank() == 0 {
        let devices: Vec<_> =
            devices.iter().map(|device| String::from_utf8_lossy(device)).collect();
        for (rank, device) in devices.iter().enumerate() {
            outln!("rank {rank}: {device}");
        }
        for row in &rows {
            let Spent { whole, read, exchange, upload, waited } = row.spent;
            let [whole, read, exchange, upload, waited] =
                [whole, read, exchange, upload, waited].map(|s| 1e3 * s);
            let speed =
                row.images_per_s.map_or(String::new(), |rate| format!("{rate:.1} images/s, "));
            outln!(
                "{}: {speed}{:.0} ms; {:.1} MB there and back in {whole:.0} ms: read {read:.0}, \
                 exchange {exchange:.0}, write {upload:.0}; {:.0} % of the exchange hidden, {:.2} \
                 x the slowest; waited {waited:.0} ms for the other ranks",
                row.op,
                1e3 * row.timing.median,
                row.megabytes,
                100.0 * row.hidden,
                row.over_slowest
            );
        }
        output.device(&device);
        output.set("machine", machine::describe());
        output.set("ranks", json!(devices));
        output.set("rows", json!(rows));
        output.write(common)?;
    }
    watch::end();
    among.ranks.end()
}
