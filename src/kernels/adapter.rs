//! The adapter that a tensor is on, and the profile by which kernels are chosen for it.

use super::testing;
use crate::device::{self, Class, Profile};
use burn::backend::wgpu::CubeTensor;
use burn::cubecl::Device as CubeDevice;
use std::sync::Arc;

/// Returns whether `tensor` is on cubecl's wgpu runtime, where our WGSL can run. (Other runtimes
/// have the same tensor type.)
pub fn on_wgpu(tensor: &CubeTensor) -> bool {
    matches!(tensor.device, CubeDevice::Wgpu(_))
}

/// Returns the profile by which launches on `tensor`'s device choose their kernels.
pub(crate) fn profile_of(tensor: &CubeTensor) -> Arc<Profile> {
    testing::profile().unwrap_or_else(|| adapter_profile(tensor))
}

/// Returns the class of the adapter that `tensor` is on.
pub(crate) fn class(tensor: &CubeTensor) -> Class {
    profile_of(tensor).class
}

/// Returns the profile of the adapter that `tensor` is on, even if launches choose by another.
pub(crate) fn adapter_profile(tensor: &CubeTensor) -> Arc<Profile> {
    match &tensor.device {
        CubeDevice::Wgpu(device) => device::profile(device, || {
            // A subgroup of lavapipe or SwiftShader is one SIMD vector of the CPU.
            let widest = tensor.client.properties().hardware.plane_size_max;
            if widest <= 8 { Class::Software } else { Class::Gpu }
        }),
        _ => Profile::least(Class::Gpu).into(),
    }
}
