//! `soda devices`: the list of devices.

use crate::cli::args::Common;
use crate::cli::output::Output;
use indicatif::BinaryBytes;
use serde_json::json;
use soda::device::{adapters, select};
use soda::error::Result;
use soda::kernels::conv2d::f16_path;

/// Lists every adapter, and the device that `auto` selects.
pub fn run(common: &Common) -> Result<()> {
    let mut output = Output::new("devices");
    let found = adapters();
    let chosen = select("auto")?;
    for a in found.iter().filter(|a| a.same_as.is_none()) {
        outln!("{}  {} ({})", a.selector(), a.name, a.kind.label());
        outln!("    driver     {}", a.driver);
        let l = &a.limits;
        outln!(
            "    limits     storage binding {}, buffer {}, {} storage buffers per shader, \
             workgroup {} invocations and {}, subgroup {}..{}",
            BinaryBytes(l.max_storage_binding),
            BinaryBytes(l.max_buffer),
            l.storage_buffers,
            l.workgroup_invocations,
            BinaryBytes(l.workgroup_memory.into()),
            l.subgroup_size[0],
            l.subgroup_size[1],
        );
        for same in found.iter().filter(|other| other.same_as.as_ref() == Some(&a.selector())) {
            outln!("    also       {} with driver {}", same.selector(), same.driver);
        }
        outln!("    f16        convolutions: {}", f16_path(&a.profile));
        outln!(
            "    features   {}",
            if a.features.is_empty() {
                "none that soda uses".into()
            } else {
                a.features.join(", ")
            }
        );
    }
    if let Some(missed) = &chosen.missed {
        outln!("{missed}");
    } else if found.is_empty() {
        outln!("no adapter found: install a Vulkan driver, or use the CPU");
    }
    outln!("cpu       {} (Burn's CPU backend, always available)", select("cpu")?.name);
    outln!("auto takes {} ({})", chosen.describe(), chosen.why);
    output.device(&chosen);
    output.set("why", json!(chosen.why));
    output.set("missed", json!(chosen.missed));
    output.set("adapters", json!(found));
    output.write(common)
}
