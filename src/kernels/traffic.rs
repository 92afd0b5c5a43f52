//! Counts what shaders actually read and write while they run, for tests and for the table of
//! memory traffic.
//!
//! On request, every launch runs a modified text in which each access to a storage buffer
//! increments a counter. An access at a constant index, which is the same value for all
//! invocations, counts once per workgroup.

use super::shader::Shader;
use burn::backend::wgpu::{KernelSource, SourceTemplate};
use burn::cubecl::prelude::{ExecutionMode, KernelId};
use std::cell::RefCell;

/// The memory traffic of one launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The file under shaders/, without its extension.
    pub kernel: &'static str,
    /// The template values.
    pub variant: String,
    /// The bytes of all accesses.
    pub bytes: f64,
    /// The minimum of bytes that the work requires.
    pub fewest: f64,
}

thread_local! {
    static MOVED: RefCell<Option<Vec<Moved>>> = const { RefCell::new(None) };
}

/// Runs `work` and returns the traffic of each launch of this thread.
pub fn counted(work: impl FnOnce()) -> Vec<Moved> {
    MOVED.set(Some(Vec::new()));
    work();
    MOVED.take().unwrap_or_default()
}

/// Returns whether launches on this thread count their traffic.
pub(super) fn counts() -> bool {
    MOVED.with_borrow(Option::is_some)
}

/// Adds a launch.
pub(super) fn add(moved: Moved) {
    MOVED.with_borrow_mut(|all| all.as_mut().expect("launches count").push(moved));
}

/// A shader text that counts its accesses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    /// The text, with the counters as the buffer before the info block.
    pub text: String,
    /// The bytes per access of each counter. A buffer has two counters, for reads and for writes.
    pub bytes: Vec<f64>,
    /// The bytes that a workgroup accesses at constant indices.
    pub fixed: f64,
}

impl Counted {
    /// Rewrites the text of `shader`.
    ///
    /// # Panics
    /// If the text doesn't follow the conventions of our shaders.
    pub fn new<S: Shader>(shader: &S) -> Self {
        Self::of(&shader.wgsl(), S::BUFFERS)
    }

    fn of(wgsl: &str, buffers: usize) -> Self {
        let info = format!("@group(0) @binding({buffers}) var<uniform> info: Info;");
        assert!(wgsl.contains(&info), "the info block comes last");
        let text = wgsl
            .replace(&info, &info.replace(&format!("({buffers})"), &format!("({})", buffers + 1)));
        let mut counted = Self { text, bytes: Vec::new(), fixed: 0.0 };
        let mut functions = format!(
            "@group(0) @binding({buffers}) var<storage, read_write> counters: array<atomic<u32>>;\n"
        );
        for buffer in 0..buffers {
            let head = format!("@group(0) @binding({buffer}) var<storage, read_write> ");
            let declared = wgsl
                .split_once(&head)
                .expect("a declaration")
                .1
                .split_once(";\n")
                .expect("its end")
                .0;
            let (name, kind) = declared.split_once(": array<").expect("an array");
            let kind = kind.strip_suffix('>').expect("its end");
            let size = size(wgsl, kind);
            counted.bytes.extend([size; 2]);
            counted.count(name, 2 * buffer, size);
            let counter = 2 * buffer;
            functions += &format!(
                "fn read_{name}(at: u32) -> {kind} {{ atomicAdd(&counters[{counter}], 1u); return {name}[at]; }}\n"
            );
        }
        counted.text += &functions;
        counted
    }

    /// Makes accesses to the array `name` count themselves, except those at constant indices.
    fn count(&mut self, name: &str, counter: usize, size: f64) {
        let text = std::mem::take(&mut self.text);
        let (mut rest, mut done) = (text.as_str(), String::new());
        let open = format!("{name}[");
        while let Some(at) = rest.find(&open) {
            let (before, from) = rest.split_at(at);
            done += before;
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
                done += &open;
                rest = &from[open.len()..];
                continue;
            }
            let end = closing(&from[open.len()..]);
            let (index, behind) = (&from[open.len()..][..end], &from[open.len() + end + 1..]);
            let writes = behind.trim_start();
            let (assigned, added) = (writes.starts_with("= "), writes.starts_with("+= "));
            if index.trim_end_matches('u').parse::<u32>().is_ok() {
                self.fixed += size * if added { 2.0 } else { 1.0 };
                done += &format!("{name}[{index}]");
            } else if assigned || added {
                let both = if added {
                    format!("atomicAdd(&counters[{counter}], 1u); ")
                } else {
                    String::new()
                };
                done +=
                    &format!("{both}atomicAdd(&counters[{}], 1u); {name}[{index}]", counter + 1);
            } else {
                done += &format!("read_{name}({index})");
            }
            rest = behind;
        }
        self.text = done + rest;
    }

    /// Returns the bytes that the values of `counters` and the number of `workgroups` stand for.
    pub fn total(&self, counters: &[u32], workgroups: usize) -> f64 {
        let counted: f64 =
            counters.iter().zip(&self.bytes).map(|(n, bytes)| f64::from(*n) * bytes).sum();
        counted + self.fixed * workgroups as f64
    }
}

/// Returns the position of the bracket that closes the one before `text`.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    let place = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '[') - i32::from(*c == ']');
        depth == 0
    });
    place.expect("a closing bracket").0
}

/// Returns the bytes of the scalar or vector type `kind`, following its aliases in `wgsl`.
fn size(wgsl: &str, kind: &str) -> f64 {
    match kind {
        "f32" | "u32" => 4.0,
        "f16" => 2.0,
        _ => match kind.strip_prefix("vec4<") {
            Some(of) => 4.0 * size(wgsl, of.trim_end_matches('>')),
            None => {
                let alias = wgsl
                    .split_once(&format!("alias {kind} = "))
                    .unwrap_or_else(|| panic!("{kind} is not an alias"))
                    .1;
                size(wgsl, alias.split_once(';').expect("its end").0)
            }
        },
    }
}

impl KernelSource for Counted {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text.clone())
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.text.clone()).mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_told_apart() {
        let text = "alias T = vec4<f32>;\n@group(0) @binding(0) var<storage, read_write> x: array<T>;\n\
                    @group(0) @binding(1) var<storage, read_write> y: array<f32>;\n@group(0) @binding(2) var<uniform> info: Info;\n\
                    fn main() { let a = x[i + max[1]] + max[2]; y[x[i].y] = y[0u]; y[j] += 1.0; }\n";
        let counted = Counted::of(text, 2);
        assert_eq!((counted.bytes.as_slice(), counted.fixed), (&[16.0, 16.0, 4.0, 4.0][..], 4.0));
        let main = counted.text.lines().find(|line| line.starts_with("fn main")).expect("main");
        assert!(main.contains("let a = read_x(i + max[1]) + max[2];"), "{main}");
        assert!(main.contains("atomicAdd(&counters[3], 1u); y[read_x(i).y] = y[0u];"), "{main}");
        assert!(
            main.contains("atomicAdd(&counters[2], 1u); atomicAdd(&counters[3], 1u); y[j] += 1.0;"),
            "{main}"
        );
        assert!(
            counted.text.contains("@binding(3) var<uniform> info")
                && counted.text.contains("@binding(2) var<storage")
        );
        assert_eq!(counted.total(&[2, 0, 1, 3], 5), 32.0 + 4.0 + 12.0 + 20.0);
    }
}
