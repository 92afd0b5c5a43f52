//! The ranking of adapters, and the detection of several adapters for one GPU.

use super::adapter::Adapter;
use std::borrow::Borrow;

/// Ranks a driver among those for the same GPU: 0 is the one that the vendor or Mesa maintains for
/// compute.
fn of_driver(driver: &str) -> u8 {
    let driver = driver.to_lowercase();
    let is = |names: &[&str]| names.iter().any(|name| driver.contains(name));
    match driver {
        // Vulkan over Direct3D 12, slow and not conformant.
        _ if is(&["dozen", "dzn"]) => 3,
        // Alternatives to NVIDIA's own driver.
        _ if is(&["nvk", "nouveau"]) => 2,
        // Alternatives to RADV, which other projects test on.
        _ if is(&["amdvlk", "amd open-source"]) => 1,
        _ => 0,
    }
}

/// Returns the GPUs of `adapters`, best first: by kind, then by driver, then in the order found.
pub(super) fn ranked(mut adapters: Vec<Adapter>) -> Vec<Adapter> {
    adapters.retain(|adapter| adapter.kind.is_gpu());
    adapters.sort_by_key(|adapter| (adapter.kind as u8, of_driver(&adapter.driver)));
    adapters
}

/// Returns the index in `adapters` of the one that process number `nth` takes. The processes take
/// the adapters of the first one's kind and API in turn, each GPU once.
pub(super) fn nth_alike(adapters: &[impl Borrow<Adapter>], nth: usize) -> Option<usize> {
    let first = adapters.first()?.borrow();
    let alike = (0..adapters.len()).filter(|i| {
        let adapter = adapters[*i].borrow();
        let duplicate = |other: &Adapter| !adapter.pci.is_empty() && other.pci == adapter.pci;
        adapter.kind == first.kind
            && adapter.backend == first.backend
            && !adapters[..*i].iter().any(|other| duplicate(other.borrow()))
    });
    let alike: Vec<usize> = alike.collect();
    Some(alike[nth % alike.len()])
}

/// Sets [`Adapter::same_as`] of every adapter whose GPU has a better adapter, from another driver
/// or another API.
pub(super) fn mark_duplicates(adapters: &mut [Adapter]) {
    let best = ranked(adapters.to_vec());
    for adapter in adapters {
        let same = best.iter().find(|other| !other.pci.is_empty() && other.pci == adapter.pci);
        adapter.same_as = same.map(Adapter::selector).filter(|best| *best != adapter.selector());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Class, Kind, Profile};
    use burn::cubecl::wgpu::{WgpuBackend, WgpuDeviceKind};

    fn adapter(index: usize, kind: Kind, driver: &str, pci: &str) -> Adapter {
        let profile = Profile::least(Class::Gpu);
        Adapter {
            name: "a GPU".into(),
            backend: "vulkan",
            kind,
            driver: driver.into(),
            index,
            memory: None,
            limits: profile.limits.clone(),
            features: Vec::new(),
            pci: pci.into(),
            same_as: None,
            profile,
            handle: (WgpuDeviceKind::DiscreteGpu(index), WgpuBackend::Vulkan),
        }
    }

    #[test]
    fn the_better_driver_comes_first_and_adapters_of_one_gpu_are_marked() {
        let mut found = vec![
            adapter(0, Kind::Software, "llvmpipe Mesa 25", ""),
            adapter(1, Kind::IntegratedGpu, "radv Mesa 25", "0000:06:00.0"),
            adapter(2, Kind::DiscreteGpu, "NVK Mesa 25", "0000:01:00.0"),
            adapter(3, Kind::DiscreteGpu, "NVIDIA 580.95", "0000:01:00.0"),
            adapter(4, Kind::DiscreteGpu, "Dozen Mesa 25", ""),
            adapter(5, Kind::IntegratedGpu, "AMD open-source driver 2025.Q2", "0000:06:00.0"),
        ];
        let order = |adapters: &[Adapter]| {
            ranked(adapters.to_vec()).iter().map(|a| a.index).collect::<Vec<_>>()
        };
        assert_eq!(order(&found), [3, 2, 4, 1, 5]);
        mark_duplicates(&mut found);
        let same: Vec<Option<&str>> = found.iter().map(|a| a.same_as.as_deref()).collect();
        assert_eq!(same, [None, None, Some("vulkan:3"), None, None, Some("vulkan:1")]);
        // A driver of low rank is taken where it is the only one.
        assert_eq!(order(&found[2..3]), [2]);
    }

    #[test]
    fn processes_take_the_adapters_of_the_best_kind_in_turn() {
        let all = [
            adapter(0, Kind::DiscreteGpu, "NVIDIA", "1"),
            adapter(1, Kind::DiscreteGpu, "NVIDIA", "2"),
            adapter(2, Kind::DiscreteGpu, "NVK", "1"),
            adapter(3, Kind::IntegratedGpu, "Mesa", "3"),
        ];
        assert_eq!([0, 1, 2, 3].map(|nth| nth_alike(&all, nth)), [0, 1, 0, 1].map(Some));
        assert_eq!(nth_alike(&all[3..], 5), Some(0));
        assert_eq!(nth_alike(&all[..0], 0), None);
    }
}
