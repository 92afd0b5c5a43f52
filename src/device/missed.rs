//! GPUs that are present but that no graphics API lists: the likeliest failure in containers and on
//! rented machines, where CUDA works and Vulkan finds nothing.

use crate::error::Hint;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The environment variables that make the Vulkan loader (the first seven), Mesa's device selection
/// and [`adapters`](super::adapters) hide adapters. (wgpu reads no others, as each API is queried
/// separately.)
const HIDING: [&str; 11] = [
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
    "VK_LOADER_DEVICE_ID_FILTER",
    "VK_LOADER_VENDOR_ID_FILTER",
    "VK_LOADER_DRIVER_ID_FILTER",
    "MESA_VK_DEVICE_SELECT",
    "MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE",
    "WGPU_BACKEND",
    "WGPU_ADAPTER_NAME",
];

/// The folders in which the Vulkan loader looks for driver files.
const DRIVER_FOLDERS: [&str; 4] = [
    "etc/vulkan/icd.d",
    "usr/local/share/vulkan/icd.d",
    "usr/share/vulkan/icd.d",
    "usr/local/etc/vulkan/icd.d",
];

/// Describes what keeps a GPU of this machine from being used, where no adapter is a GPU. The GPU
/// is found by the device files below `root` (`/`), or is `elsewhere`, the name of an adapter that
/// WGPU_BACKEND and WGPU_ADAPTER_NAME exclude. The remedy depends on the values of the environment
/// `variables`. Returns `None` where there is no sign of a GPU.
pub(super) fn missed(
    root: &Path,
    elsewhere: Option<&str>,
    variables: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let said = match elsewhere {
        Some(name) => format!("{name} is there, but excluded"),
        None => by_devices(root, &variables)?,
    };
    let set: Vec<String> =
        HIDING.iter().filter_map(|name| Some(format!("{name}={}", variables(name)?))).collect();
    Some(match set[..] {
        [] => said,
        _ => {
            format!("{said}; {} in the environment may hide adapters: unset it", set.join(" and "))
        }
    })
}

fn by_devices(root: &Path, variables: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let there = |path: &str| root.join(path).exists();
    if there("dev/dxg") {
        return Some(
            "a GPU is there (/dev/dxg), but WSL2 has no conformant Vulkan driver for it: run soda \
             for Windows outside WSL2"
                .into(),
        );
    }
    if there("dev/nvidia0") {
        let here = variables("NVIDIA_DRIVER_CAPABILITIES")
            .map_or(String::new(), |is| format!(" (here it is {is:?})"));
        return Some(format!(
            "an NVIDIA GPU is there (/dev/nvidia0), but Vulkan doesn't find it; a container must \
             be started with NVIDIA_DRIVER_CAPABILITIES=all, or a list that includes \
             graphics{here}; {}",
            driver_file(root, "nvidia", "nvidia_icd.json", "libGLX_nvidia.so.0")
        ));
    }
    let node = render_nodes(root).into_iter().next()?;
    let name = node.file_name()?.to_string_lossy().into_owned();
    let vendor =
        std::fs::read_to_string(root.join("sys/class/drm").join(&name).join("device/vendor"))
            .unwrap_or_default();
    let (whose, driver) = match vendor.trim() {
        "0x1002" => ("an AMD GPU", Some(("radeon", "radeon_icd"))),
        "0x8086" => ("an Intel GPU", Some(("intel", "intel_icd"))),
        "0x10de" => ("an NVIDIA GPU", Some(("nvidia", "nvidia_icd"))),
        _ => ("a GPU", None),
    };
    let driver = driver.map_or(String::new(), |(begins, called)| {
        format!("{}; ", driver_file(root, begins, called, "the library that it names"))
    });
    let closed = std::fs::File::options().read(true).write(true).open(&node);
    let allowed = match closed.map_err(|e| e.kind()) {
        Err(ErrorKind::PermissionDenied) => {
            "you have no permission to open it: join the group render (or video) and log in again; "
        }
        _ => "",
    };
    let install = if vendor.trim() == "0x10de" {
        "NVIDIA's driver"
    } else {
        "Mesa's Vulkan drivers (Debian: mesa-vulkan-drivers)"
    };
    Some(format!(
        "{whose} is there (/dev/dri/{name}), but Vulkan doesn't find it; {allowed}{driver}\
         {install} may be missing; until then {}",
        Hint::OpenGl
    ))
}

/// Describes where the driver file lies that the Vulkan loader must find, or that there is none.
fn driver_file(root: &Path, begins: &str, called: &str, library: &str) -> String {
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.contains(begins) && name.ends_with(".json")
    };
    let found = DRIVER_FOLDERS.iter().flat_map(|folder| files(&root.join(folder))).find(named);
    match found.as_ref().and_then(|path| path.strip_prefix(root).ok()) {
        Some(path) => format!(
            "its driver file /{} is there, so {library} or one of its dependencies may be missing",
            path.display()
        ),
        None => format!(
            "there is no driver file ({called}) in /usr/share/vulkan/icd.d or /etc/vulkan/icd.d; \
             VK_DRIVER_FILES can name one elsewhere"
        ),
    }
}

fn render_nodes(root: &Path) -> Vec<PathBuf> {
    let nodes = files(&root.join("dev/dri")).into_iter();
    nodes
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD"))
        })
        .collect()
}

/// Returns the entries of `folder`, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_or(Vec::new(), |all| all.flatten().map(|e| e.path()).collect());
    files.sort_unstable();
    files
}

// Windows would join paths by backslashes.
#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Returns the message for a machine with these files and environment variables.
    fn said(
        paths: &[(&str, &str)],
        elsewhere: Option<&str>,
        set: &[(&str, &str)],
    ) -> Option<String> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in paths {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(path, text).expect("writable");
        }
        let value =
            |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        missed(root.path(), elsewhere, value)
    }

    fn holds(said: Option<String>, parts: &[&str]) {
        let said = said.expect("a GPU is there");
        parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in: {said}"));
    }

    #[test]
    fn a_gpu_without_an_adapter_is_named_with_the_remedy() {
        let utility = ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility");
        let parts = [
            "/dev/nvidia0",
            "NVIDIA_DRIVER_CAPABILITIES=all",
            "nvidia_icd.json",
            "VK_DRIVER_FILES",
        ];
        holds(said(&[("dev/nvidia0", ""), ("dev/dri/renderD128", "")], None, &[]), &parts);
        let file = ("etc/vulkan/icd.d/nvidia_icd.x86_64.json", "{}");
        let parts = [
            "\"compute,utility\"",
            "/etc/vulkan/icd.d/nvidia_icd.x86_64.json is there",
            "libGLX_nvidia.so.0",
        ];
        holds(said(&[("dev/nvidia0", ""), file], None, &[utility]), &parts);

        let amd = [
            ("dev/dri/renderD129", ""),
            ("dev/dri/card0", ""),
            ("sys/class/drm/renderD129/device/vendor", "0x1002\n"),
        ];
        holds(
            said(&amd, None, &[]),
            &["an AMD GPU is there (/dev/dri/renderD129)", "radeon_icd", "mesa-vulkan-drivers"],
        );
        // No driver file is known of other vendors, and those of others have nothing to do with it.
        let other = [
            ("dev/dri/renderD128", ""),
            ("sys/class/drm/renderD128/device/vendor", "0x1af4\n"),
            ("usr/share/vulkan/icd.d/intel_icd.x86_64.json", "{}"),
        ];
        let words = said(&other, None, &[]).expect("a GPU is there");
        assert!(words.contains("a GPU is there") && !words.contains("driver file"), "{words}");
        holds(said(&[("dev/dxg", "")], None, &[]), &["/dev/dxg", "WSL2", "soda for Windows"]);
        assert_eq!(
            said(&[("dev/dri/card0", "")], None, &[("VK_DRIVER_FILES", "x")]),
            None,
            "a display is not a GPU"
        );
        assert_eq!(said(&[], None, &[]), None);
    }

    #[test]
    fn variables_that_hide_adapters_are_named_when_set() {
        for name in HIDING {
            holds(
                said(&[("dev/nvidia0", "")], None, &[(name, "7")]),
                &[&format!("{name}=7"), "unset it"],
            );
        }
        let own = said(
            &[],
            Some("NVIDIA A40"),
            &[("WGPU_ADAPTER_NAME", "radeon"), ("WGPU_BACKEND", "vulkan")],
        );
        holds(
            own,
            &[
                "NVIDIA A40 is there",
                "WGPU_BACKEND=vulkan and WGPU_ADAPTER_NAME=radeon",
                "unset it",
            ],
        );
        let quiet = said(&[("dev/nvidia0", "")], None, &[]).expect("a GPU");
        assert!(!quiet.contains("unset it"), "{quiet}");
    }
}
