//! The profiles of the devices in use: determined once for each device, and looked up at every
//! kernel launch.

use super::adapter::{GL, every_adapter};
use super::profile::{Class, Profile};
use burn::cubecl::wgpu::WgpuDevice;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

static KNOWN: LazyLock<RwLock<HashMap<WgpuDevice, Arc<Profile>>>> = LazyLock::new(RwLock::default);

/// Returns the profile of `device`, which is read from its adapter the first time. Where no adapter
/// corresponds to `device` (it was created elsewhere, or the API chose it), `otherwise` gives its
/// class.
pub(crate) fn profile(device: &WgpuDevice, otherwise: impl FnOnce() -> Class) -> Arc<Profile> {
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(device) {
        return known.clone();
    }
    let apis = [None, Some(GL)].into_iter();
    let found = apis
        .flat_map(every_adapter)
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

/// Makes launches on `device` use `profile` from now on, whatever its adapter: for recording a
/// network for another machine.
pub(crate) fn replace(device: &WgpuDevice, profile: Profile) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(device.clone(), profile.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::cubecl::wgpu::WgpuDeviceKind;

    #[test]
    fn a_profile_is_kept_and_can_be_replaced() {
        // No adapter has this index.
        let device = WgpuDevice::new(WgpuDeviceKind::Existing(4_000_000));
        assert_eq!(*profile(&device, || Class::Software), Profile::least(Class::Software));
        let other = Profile { vendor: 7, ..Profile::least(Class::Gpu) };
        replace(&device, other.clone());
        assert_eq!(*profile(&device, || unreachable!("it is known")), other);
    }
}
