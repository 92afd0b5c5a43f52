//! What an adapter is made of: the kind of its hardware, and its limits.

use serde::Serialize;

/// The kind of hardware behind an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A card with its own memory.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU passed through to a virtual machine.
    VirtualGpu,
    /// Not reported by the driver.
    Other,
    /// A software implementation that runs on the CPU (lavapipe, WARP): correct, slow, not a GPU.
    Software,
}

impl Kind {
    /// Returns whether this is real graphics hardware.
    pub fn is_gpu(self) -> bool {
        self != Self::Software
    }

    /// Returns a human-readable label: "discrete GPU", .., "software, no GPU".
    pub fn label(self) -> &'static str {
        match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Other => "GPU of unknown kind",
            Self::Software => "software, no GPU",
        }
    }
}

/// The limits of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// The largest storage buffer binding, in bytes.
    pub max_storage_binding: u64,
    /// The largest buffer, in bytes.
    pub max_buffer: u64,
    /// Storage buffers per shader stage.
    pub storage_buffers: u32,
    /// Invocations per workgroup.
    pub workgroup_invocations: u32,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// The smallest and the largest subgroup size.
    pub subgroup_size: [u32; 2],
}
