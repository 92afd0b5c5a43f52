//! All checks of a folder.

use crate::limits;
use crate::manifest::{Binding, Extension, Folder, Shader};
use crate::module::{self, Valid};
use crate::translate::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The result of the checks.
#[derive(Default)]
pub struct Report {
    /// One line each: kernel, variant, file, reason.
    pub failures: Vec<String>,
    /// Every translation that was written.
    pub translations: Vec<Translation>,
    /// The number of shaders that weren't translated, because the language lacks an extension.
    pub unwritable: BTreeMap<(Target, Extension), usize>,
    shaders: usize,
    operations: usize,
    valid: usize,
}

/// A shader in the language of a graphics API.
pub struct Translation {
    /// The name of the WGSL file.
    pub file: String,
    pub target: Target,
    pub text: Vec<u8>,
}

/// The summary line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} shaders of {} operations: {} valid",
            self.shaders, self.operations, self.valid
        )?;
        for target in Target::ALL {
            write!(
                f,
                ", {} in {target}",
                self.translations.iter().filter(|t| t.target == target).count()
            )?;
        }
        write!(f, "; {} failures", self.failures.len())
    }
}

/// Checks the manifest against the files, and every shader.
pub fn folder(folder: &Folder) -> Report {
    let shaders = &folder.manifest.shaders;
    let operations: BTreeSet<_> = shaders.iter().map(|s| s.operation.as_str()).collect();
    let mut report =
        Report { shaders: shaders.len(), operations: operations.len(), ..Default::default() };
    if shaders.is_empty() {
        report.failures.push("manifest.json: names no shader".to_owned());
    }
    for operation in operations {
        if !shaders.iter().any(|s| s.operation == operation && s.extensions.is_empty()) {
            report.failures.push(format!("{operation}: every variant needs an extension"));
        }
    }
    let named: BTreeSet<_> = shaders.iter().map(|s| s.file.as_str()).collect();
    for file in folder.texts.keys().filter(|f| !named.contains(f.as_str())) {
        report.failures.push(format!("{file}: manifest.json doesn't name it"));
    }

    // The first entry of each file and of each source.
    let (mut files, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for shader in shaders {
        if let Some(first) = files.insert(shader.file.as_str(), shader) {
            report.failures.push(format!("{shader}: {first} has the same file"));
            continue;
        }
        let Some(text) = folder.texts.get(&shader.file) else {
            report.failures.push(format!("{shader}: no such file in the folder"));
            continue;
        };
        if let Some(first) = texts.insert(text.as_str(), shader) {
            report.failures.push(format!("{shader}: {first} has the same source"));
        }
        report.shader(shader, text);
    }
    report
}

impl Report {
    fn shader(&mut self, shader: &Shader, text: &str) {
        for mark in ["{{", "{%", "{#"] {
            if text.contains(mark) {
                self.failures
                    .push(format!("{shader}: a value of the template was left out (`{mark}`)"));
            }
        }
        let valid = match module::validate(text, &shader.extensions) {
            Ok(valid) => valid,
            Err(reason) => return self.failures.push(format!("{shader}: {reason}")),
        };
        self.valid += 1;
        for extension in module::needless(text, &shader.extensions) {
            self.failures.push(format!("{shader}: names {extension} and doesn't use it"));
        }
        let mut reasons = interface(shader, &valid);
        // Cooperative matrices aren't part of WebGPU.
        if !shader.extensions.contains(&Extension::CooperativeMatrix) {
            reasons.extend(limits::exceeded(&valid));
        }
        self.failures.extend(reasons.into_iter().map(|reason| format!("{shader}: {reason}")));
        for target in Target::ALL {
            self.translate(shader, &valid, target);
        }
    }

    fn translate(&mut self, shader: &Shader, valid: &Valid, target: Target) {
        if let Some(&lacking) = shader.extensions.iter().find(|&&e| !target.writes(e)) {
            *self.unwritable.entry((target, lacking)).or_default() += 1;
            return;
        }
        match target.translate(valid, &shader.extensions) {
            Ok(text) => {
                self.translations.push(Translation { file: shader.file.clone(), target, text })
            }
            Err(reason) => self.failures.push(format!("{shader}: to {target}: {reason}")),
        }
    }
}

/// Returns a line for each contradiction between the manifest's entry for `shader` and the module.
fn interface(shader: &Shader, module: &Valid) -> Vec<String> {
    let mut reasons = Vec::new();
    let size = module.workgroup_size();
    if size != shader.workgroup_size {
        reasons
            .push(format!("a workgroup of {size:?}, {:?} in the manifest", shader.workgroup_size));
    }
    let bytes = module.workgroup_bytes();
    if let Some(claimed) = shader.workgroup_bytes.filter(|&claimed| claimed != bytes) {
        reasons.push(format!("{bytes} bytes of workgroup memory, {claimed} in the manifest"));
    }

    let buffers = module.buffers();
    let numbered = buffers.iter().enumerate().all(|(i, b)| b.group == 0 && b.binding as usize == i);
    if !numbered {
        let places: Vec<_> = buffers.iter().map(|b| (b.group, b.binding)).collect();
        reasons.push(format!(
            "buffers at (group, binding) {places:?} instead of group 0, from binding 0 without gaps"
        ));
    }
    let kinds: Vec<_> = buffers.iter().map(|b| b.kind).collect();
    let claimed: Vec<_> = shader.bindings.iter().copied().map(Some).collect();
    if kinds != claimed {
        reasons.push(format!("binds {}, in the manifest {}", list(&kinds), list(&claimed)));
    }
    if !kinds.contains(&Some(Binding::Storage)) {
        reasons.push("binds no storage buffer, so it has no result".to_owned());
    }
    if kinds.iter().rev().skip(1).any(|&kind| kind == Some(Binding::Uniform)) {
        reasons.push(format!("binds {}: only the last may be a uniform", list(&kinds)));
    }
    reasons
}

/// Summarises kinds of buffers, for example "2 storage, 1 uniform".
fn list(kinds: &[Option<Binding>]) -> String {
    let name = |kind: Option<Binding>| match kind {
        Some(Binding::Storage) => "storage",
        Some(Binding::Uniform) => "uniform",
        None => "neither",
    };
    let runs: Vec<_> = kinds
        .chunk_by(|a, b| a == b)
        .map(|run| format!("{} {}", run.len(), name(run[0])))
        .collect();
    if runs.is_empty() { "nothing".to_owned() } else { runs.join(", ") }
}
