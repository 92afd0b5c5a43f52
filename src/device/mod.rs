//! The devices of this machine, and how a selection such as `vulkan:0` or `auto` picks one.

mod adapter;
mod hardware;
mod known;
mod lasting;
mod memory;
mod missed;
mod profile;
mod rank;

pub use adapter::Adapter;
pub use hardware::{Kind, Limits};
pub(crate) use known::{profile, replace};
pub use lasting::lasting;
pub use profile::{Class, Extensions, MatrixSize, Profile};

use adapter::{GL, every_adapter, opens};

use crate::error::{Error, Hint, Result};
use burn::tensor::Device;
use std::path::Path;

/// A device to compute on, and the reason it was chosen.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Burn's handle, without autodiff.
    pub device: Device,
    /// `cpu`, `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: &'static str,
    /// The name of the adapter or of the CPU.
    pub name: String,
    /// The reason for the choice, in one sentence.
    pub why: String,
    /// Whether it is real graphics hardware.
    pub gpu: bool,
    /// The adapter; `None` for the CPU backend.
    pub adapter: Option<Adapter>,
    /// What keeps a GPU that is present from being used, and the remedy; set where `auto` falls
    /// back to the CPU.
    pub missed: Option<String>,
}

impl Selected {
    /// Returns the CPU backend, chosen because of `why`.
    pub fn cpu(why: &str) -> Self {
        let name = format!("CPU, {} threads", rayon::current_num_threads());
        Self {
            device: Device::flex(),
            backend: "cpu",
            name,
            why: why.into(),
            gpu: false,
            adapter: None,
            missed: None,
        }
    }

    fn adapter(adapter: &Adapter, why: &str) -> Self {
        Self {
            device: Device::from(adapter.device()),
            backend: adapter.backend,
            name: adapter.name.clone(),
            why: why.into(),
            gpu: adapter.kind.is_gpu(),
            adapter: Some(adapter.clone()),
            missed: None,
        }
    }

    /// Returns backend and name: "vulkan: NVIDIA A40" or "cpu: CPU, 2 threads".
    pub fn describe(&self) -> String {
        let software = if self.gpu || self.backend == "cpu" { "" } else { " (software, no GPU)" };
        format!("{}: {}{software}", self.backend, self.name)
    }
}

/// Returns every adapter of every native graphics API except OpenGL. With several APIs the same
/// hardware appears under each.
pub fn adapters() -> Vec<Adapter> {
    adapters_in(no_environment)
}

/// Returns the adapters as [`adapters`], restricted by the environment; OpenGL would list the same
/// hardware again. Hardware that several APIs support appears once for each. WGPU_BACKEND (a
/// comma-separated list, which may name `gl`) and WGPU_ADAPTER_NAME (part of the name) narrow the
/// list.
pub fn adapters_in(environment: Environment) -> Vec<Adapter> {
    narrowed(environment("WGPU_BACKEND").as_deref(), environment)
}

/// Returns the value of an environment variable: [`no_environment`], or what the program's own
/// environment holds.
pub type Environment = fn(&str) -> Option<String>;

/// Holds no variable, so that nothing is restricted.
pub fn no_environment(_: &str) -> Option<String> {
    None
}

/// Returns the adapters of the graphics APIs that `wanted` lists (see [`every_adapter`]), filtered
/// by WGPU_ADAPTER_NAME.
fn narrowed(wanted: Option<&str>, environment: Environment) -> Vec<Adapter> {
    let wanted_name = environment("WGPU_ADAPTER_NAME").map(|n| n.to_lowercase());
    let mut found = every_adapter(wanted);
    found.retain(|a| wanted_name.as_ref().is_none_or(|n| a.name.to_lowercase().contains(n)));
    rank::mark_duplicates(&mut found);
    found
}

/// Returns the best GPU of `adapters`.
fn best(adapters: Vec<Adapter>) -> Option<Adapter> {
    rank::ranked(adapters).into_iter().next()
}

/// Resolves `auto`: returns the first of the `ranked` GPUs that `opens` doesn't refuse with a
/// reason, else the CPU backend.
fn automatic(
    ranked: Vec<Adapter>,
    opens: impl Fn(&Adapter) -> std::result::Result<(), String>,
    environment: Environment,
) -> Selected {
    let several = ranked.len() > 1;
    let mut refused = Vec::new();
    for adapter in ranked {
        // With a single GPU, the attempt to use it reports the reason.
        match if several { opens(&adapter) } else { Ok(()) } {
            Ok(()) if refused.is_empty() => {
                return Selected::adapter(&adapter, "the best GPU here");
            }
            Ok(()) => {
                return Selected::adapter(
                    &adapter,
                    &format!("the best GPU here that can be opened; {}", refused.join("; ")),
                );
            }
            Err(why) => {
                refused.push(format!("{} ({}) failed: {why}", adapter.selector(), adapter.name))
            }
        }
    }
    without_gpu(if refused.is_empty() {
        missed_here(environment)
    } else {
        Some(format!("no GPU can be opened; {}", refused.join("; ")))
    })
}

/// Resolves `auto` where no adapter is a usable GPU, though one may have been `missed`.
fn without_gpu(missed: Option<String>) -> Selected {
    let why =
        if missed.is_some() { "the GPU of this machine can't be used" } else { "no GPU found" };
    Selected { missed, ..Selected::cpu(why) }
}

/// Returns what keeps a GPU of this machine from being used, if there is one.
fn missed_here(environment: Environment) -> Option<String> {
    let narrowed =
        ["WGPU_BACKEND", "WGPU_ADAPTER_NAME"].iter().any(|name| environment(name).is_some());
    let elsewhere = narrowed.then(|| best(every_adapter(None))).flatten();
    missed::missed(Path::new("/"), elsewhere.as_ref().map(|a| a.name.as_str()), environment)
}

/// Returns the device that `selection` names: `auto`, `cpu`, or `wgpu`, `vulkan`, `metal`, `dx12`,
/// `gl` with `:INDEX` or `:NAME`.
///
/// `auto` takes the best GPU that can be opened, else the CPU backend, and records in
/// [`missed`](Selected::missed) why a GPU that is present isn't used. A software adapter is used
/// only when named.
///
/// # Errors
/// If there is no such device; the message lists those that exist.
pub fn select(selection: &str) -> Result<Selected> {
    select_nth(selection, 0, no_environment)
}

/// Like [`select`], for process number `nth` of several on one machine: where `selection` matches
/// several adapters of one kind, the processes take them in turn.
///
/// # Errors
/// See [`select`].
pub fn select_nth(selection: &str, nth: usize, environment: Environment) -> Result<Selected> {
    let (family, which) = match selection.split_once(':') {
        Some((family, which)) => (family, Some(which)),
        None => (selection, None),
    };
    match (family, which) {
        ("cpu", None) => return Ok(Selected::cpu("asked for")),
        ("auto", None) => {
            let mut ranked = rank::ranked(adapters_in(environment));
            if let Some(own) = rank::nth_alike(&ranked, nth) {
                ranked[..=own].rotate_right(1);
            }
            return Ok(automatic(ranked, opens, environment));
        }
        ("wgpu" | "vulkan" | "metal" | "dx12" | GL, _) => {}
        _ => {
            return Err(Error::usage(format!(
                "unknown device {selection:?}: expected auto, cpu, or one of wgpu, vulkan, \
                 metal, dx12 and gl with :INDEX or :NAME{}{}",
                if family == "cuda" { "; vulkan drives NVIDIA cards, without CUDA" } else { "" },
                Hint::ListDevices
            )));
        }
    }
    let all = if family == GL { narrowed(Some(GL), environment) } else { adapters_in(environment) };
    let mut matching: Vec<_> =
        all.iter().filter(|a| family == "wgpu" || a.backend == family).collect();
    matching.sort_by_key(|a| a.kind as u8);
    let chosen = match which.map(|w| (w.parse::<usize>(), w.to_lowercase())) {
        None => rank::nth_alike(&matching, nth).and_then(|own| matching.get(own)),
        Some((Ok(index), _)) if family == "wgpu" => matching.get(index),
        Some((Ok(index), _)) => matching.iter().find(|a| a.index == index),
        Some((Err(_), name)) => {
            matching.retain(|a| a.name.to_lowercase().contains(&name));
            rank::nth_alike(&matching, nth).and_then(|own| matching.get(own))
        }
    };
    match chosen {
        Some(adapter) => Ok(Selected::adapter(adapter, "asked for")),
        None => {
            let list: Vec<_> =
                all.iter().map(|a| format!("{}:{} {}", a.backend, a.index, a.name)).collect();
            let list = if list.is_empty() { "only".to_owned() } else { list.join(", ") + " and" };
            Err(Error::usage(format!(
                "there is no device {selection:?}; this machine has {list} cpu"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opengl_is_listed_only_on_request() {
        assert!(every_adapter(None).iter().all(|adapter| adapter.backend != GL));
        #[cfg(target_os = "linux")]
        assert!(
            every_adapter(Some("vulkan, gles")).iter().any(|adapter| adapter.backend == "vulkan")
        );
        // Without OpenGL on the machine, selecting it fails.
        match (every_adapter(Some(GL)).first(), select("gl")) {
            (Some(first), Ok(selected)) => {
                assert_eq!((selected.backend, &selected.name), (GL, &first.name))
            }
            (None, Err(refused)) => {
                assert!(refused.to_string().contains("there is no device \"gl\""), "{refused}")
            }
            (first, selected) => panic!("{first:?}, but {selected:?}"),
        }
    }

    #[test]
    fn auto_tries_the_next_gpu_where_one_cannot_be_opened() {
        let one = adapters()
            .into_iter()
            .next()
            .expect("an adapter; scripts/test.sh installs a software one");
        let place = |index: usize| format!("{}:{index}", one.backend);
        let gpus: Vec<Adapter> =
            (0..2).map(|index| Adapter { kind: Kind::DiscreteGpu, index, ..one.clone() }).collect();
        let first_fails =
            |adapter: &Adapter| if adapter.index == 0 { Err("no memory".into()) } else { Ok(()) };
        let chosen = automatic(gpus.clone(), first_fails, no_environment);
        assert_eq!(chosen.adapter.expect("the second").index, 1);
        assert!(
            chosen.why.contains(&place(0)) && chosen.why.contains("no memory"),
            "{}",
            chosen.why
        );
        let chosen = automatic(gpus, |_| Err("lost".into()), no_environment);
        assert!(
            chosen.adapter.is_none()
                && chosen.missed.is_some_and(|why| why.contains(&place(1)) && why.contains("lost"))
        );
        // The real adapter opens.
        assert_eq!(opens(&one), Ok(()));
        assert!(opens(&Adapter { index: 1000, ..one.clone() }).is_err());
    }
}
