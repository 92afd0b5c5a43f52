//! What an adapter is, as far as kernels choose by it: found once for each device, and looked up
//! wherever a kernel is launched.

use super::{Kind, Limits};
use burn::cubecl::wgpu::WgpuDevice;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// What tiles are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Real graphics hardware: wide subgroups, cheap barriers, fast workgroup memory.
    Gpu,
    /// A program on the processor (lavapipe, SwiftShader, WARP) that runs a workgroup as short
    /// vectors and pays for every barrier.
    Software,
}

impl From<Kind> for Class {
    fn from(kind: Kind) -> Self {
        if kind.is_gpu() { Self::Gpu } else { Self::Software }
    }
}

/// Extensions of WGSL that a shader needs, or an adapter has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Extensions {
    /// `enable f16;`
    pub f16: bool,
    /// Subgroup operations. (naga 30 takes them without an `enable` line.)
    pub subgroups: bool,
    /// `enable wgpu_cooperative_matrix;`, which isn't WebGPU's.
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

    /// Returns whether an adapter that has these runs a shader that needs `needed`.
    pub fn cover(self, needed: Self) -> bool {
        let covers = |has: bool, needs: bool| has || !needs;
        covers(self.f16, needed.f16)
            && covers(self.subgroups, needed.subgroups)
            && covers(self.cooperative_matrix, needed.cooperative_matrix)
    }
}

/// A product that an adapter's cooperative matrices do: `[M, K]` times `[K, N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MatrixSize {
    /// M, N, K.
    pub size: [u32; 3],
    /// Whether the factors are f16; else f32.
    pub factors_f16: bool,
    /// Whether the sums are f16; else f32.
    pub sums_f16: bool,
}

/// What kernels know of the adapter that they run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// What tiles are chosen by.
    pub class: Class,
    /// Kind of hardware.
    pub kind: Kind,
    /// The vendor's number on the PCI bus; 0 where the API doesn't say.
    pub vendor: u32,
    /// Extensions of WGSL that it has.
    pub extensions: Extensions,
    /// Products of its cooperative matrices; none without that extension.
    pub matrices: Vec<MatrixSize>,
    /// Its limits; lanes of a subgroup among them.
    pub limits: Limits,
}

impl Profile {
    /// Returns a profile of WebGPU's default limits without extensions: what every adapter has.
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

    /// Returns the most seconds that `bytes` of memory traffic and so many floating-point
    /// `operations` should take. Submissions are kept short by it, as drivers stop those that take
    /// one or two seconds. It assumes a slow device of each kind: a discrete card that moves 100 GB
    /// and does 1 TFLOP a second in our kernels, anything else a tenth of that.
    pub fn seconds(&self, bytes: f64, operations: f64) -> f64 {
        let slower = if self.kind == Kind::DiscreteGpu { 1.0 } else { 10.0 };
        (bytes / 100e9).max(operations / 1e12) * slower
    }
}

static KNOWN: LazyLock<RwLock<HashMap<WgpuDevice, Arc<Profile>>>> = LazyLock::new(RwLock::default);

/// Returns the profile of `device`, which is asked of its adapter the first time. Where no adapter
/// is what `device` names (it was brought in from outside, or left to the API), `otherwise` says
/// its class.
pub(crate) fn profile(device: &WgpuDevice, otherwise: impl FnOnce() -> Class) -> Arc<Profile> {
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(device) {
        return known.clone();
    }
    let apis = [None, Some(super::GL)].into_iter();
    let found = apis
        .flat_map(super::every_adapter)
        .find(|adapter| adapter.is(device))
        .map(|adapter| adapter.profile);
    let found = found.unwrap_or_else(|| Profile::least(otherwise()));
    KNOWN
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(device.clone())
        .or_insert_with(|| found.into())
        .clone()
}

/// Makes launches on `device` choose by `profile` from now on, whatever its adapter is: for
/// recording a network for another machine.
pub(crate) fn replace(device: &WgpuDevice, profile: Profile) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(device.clone(), profile.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::cubecl::wgpu::WgpuDeviceKind;

    #[test]
    fn software_is_what_is_no_hardware() {
        assert_eq!(Class::from(Kind::Software), Class::Software);
        for kind in [Kind::DiscreteGpu, Kind::IntegratedGpu, Kind::VirtualGpu, Kind::Other] {
            assert_eq!(Class::from(kind), Class::Gpu);
        }
    }

    #[test]
    fn extensions_cover_what_needs_no_more() {
        let f16 = Extensions { f16: true, ..Extensions::default() };
        let both = Extensions { subgroups: true, ..f16 };
        assert!(both.cover(f16) && f16.cover(f16) && f16.cover(Extensions::default()));
        assert!(!f16.cover(both) && !Extensions::default().cover(f16));
        assert_eq!(both.names(), ["f16", "subgroups"]);
    }

    #[test]
    fn a_profile_is_kept_and_can_be_replaced() {
        // No adapter has this number.
        let device = WgpuDevice::new(WgpuDeviceKind::Existing(4_000_000));
        assert_eq!(*profile(&device, || Class::Software), Profile::least(Class::Software));
        let other = Profile { vendor: 7, ..Profile::least(Class::Gpu) };
        replace(&device, other.clone());
        assert_eq!(*profile(&device, || unreachable!("it is known")), other);
    }

    #[test]
    fn a_slow_kind_is_given_more_time() {
        let card = Profile { kind: Kind::DiscreteGpu, ..Profile::least(Class::Gpu) };
        assert_eq!(card.seconds(0.0, 5e11), 0.5);
        assert_eq!(Profile::least(Class::Gpu).seconds(1e10, 0.0), 1.0);
    }
}
