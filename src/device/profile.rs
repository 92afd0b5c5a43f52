//! The adapter properties by which kernels are chosen.

use super::hardware::{Kind, Limits};
use serde::Serialize;

/// The class of adapter by which tiles are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Real graphics hardware: wide subgroups, cheap barriers, fast workgroup memory.
    Gpu,
    /// A software implementation on the CPU (lavapipe, SwiftShader, WARP), which runs a workgroup
    /// as short vectors and for which every barrier is expensive.
    Software,
}

impl From<Kind> for Class {
    fn from(kind: Kind) -> Self {
        if kind.is_gpu() { Self::Gpu } else { Self::Software }
    }
}

/// The WGSL extensions that a shader needs or an adapter supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Extensions {
    /// `enable f16;`
    pub f16: bool,
    /// Subgroup operations. (naga 30 accepts them without an `enable` line.)
    pub subgroups: bool,
    /// `enable wgpu_cooperative_matrix;`, which isn't part of WebGPU.
    pub cooperative_matrix: bool,
}

impl Extensions {
    /// Returns their names: "f16", "subgroups", "cooperative_matrix".
    pub fn names(self) -> Vec<&'static str> {
        let named = [
            (self.f16, "f16"),
            (self.subgroups, "subgroups"),
            (self.cooperative_matrix, "cooperative_matrix"),
        ];
        named.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
    }

    /// Returns whether an adapter with these extensions can run a shader that needs `needed`.
    pub fn cover(self, needed: Self) -> bool {
        let covers = |has: bool, needs: bool| has || !needs;
        covers(self.f16, needed.f16)
            && covers(self.subgroups, needed.subgroups)
            && covers(self.cooperative_matrix, needed.cooperative_matrix)
    }
}

/// A product that an adapter's cooperative matrices support: `[M, K]` times `[K, N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MatrixSize {
    /// M, N, K.
    pub size: [u32; 3],
    /// Whether the factors are f16; otherwise they are f32.
    pub factors_f16: bool,
    /// Whether the sums are f16; otherwise they are f32.
    pub sums_f16: bool,
}

/// What kernels know about the adapter they run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The class by which tiles are chosen.
    pub class: Class,
    /// The kind of hardware.
    pub kind: Kind,
    /// The PCI vendor ID; 0 where the API doesn't report it.
    pub vendor: u32,
    /// The WGSL extensions that it supports.
    pub extensions: Extensions,
    /// The products that its cooperative matrices support; empty without that extension.
    pub matrices: Vec<MatrixSize>,
    /// Its limits, subgroup sizes included.
    pub limits: Limits,
}

impl Profile {
    /// Returns a profile with WebGPU's default limits and no extensions, which every adapter
    /// satisfies.
    pub fn least(class: Class) -> Self {
        Self {
            class,
            kind: if class == Class::Gpu { Kind::Other } else { Kind::Software },
            vendor: 0,
            extensions: Extensions::default(),
            matrices: Vec::new(),
            limits: Limits {
                max_storage_binding: 128 << 20,
                max_buffer: 256 << 20,
                storage_buffers: 8,
                workgroup_invocations: 256,
                workgroup_memory: 16 << 10,
                subgroup_size: [4, 128],
            },
        }
    }

    /// Returns an upper bound, in seconds, on the time for `bytes` of memory traffic and
    /// `operations` floating-point operations. It serves to keep submissions short, as drivers stop
    /// those that take one or two seconds. It assumes a slow device of each kind: a discrete card
    /// that moves 100 GB/s and reaches 1 TFLOPS in our kernels, and a tenth of that for anything
    /// else.
    pub fn seconds(&self, bytes: f64, operations: f64) -> f64 {
        let slower = if self.kind == Kind::DiscreteGpu { 1.0 } else { 10.0 };
        (bytes / 100e9).max(operations / 1e12) * slower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_software_adapters_are_of_the_software_class() {
        assert_eq!(Class::from(Kind::Software), Class::Software);
        for kind in [Kind::DiscreteGpu, Kind::IntegratedGpu, Kind::VirtualGpu, Kind::Other] {
            assert_eq!(Class::from(kind), Class::Gpu);
        }
    }

    #[test]
    fn extensions_cover_a_subset_of_themselves() {
        let f16 = Extensions { f16: true, ..Extensions::default() };
        let both = Extensions { subgroups: true, ..f16 };
        assert!(both.cover(f16) && f16.cover(f16) && f16.cover(Extensions::default()));
        assert!(!f16.cover(both) && !Extensions::default().cover(f16));
        assert_eq!(both.names(), ["f16", "subgroups"]);
    }

    #[test]
    fn slower_kinds_of_device_get_more_time() {
        let card = Profile { kind: Kind::DiscreteGpu, ..Profile::least(Class::Gpu) };
        assert_eq!(card.seconds(0.0, 5e11), 0.5);
        assert_eq!(Profile::least(Class::Gpu).seconds(1e10, 0.0), 1.0);
    }
}
