//! The list of all operations with hand-written kernels. The self test, the benchmark, the tests
//! and the shader checks use it: every operation in it is tested, measured and checked.

mod case;
mod compare;
mod inputs;
mod layer;
mod list;
mod operation;

pub use case::{Case, Pass, Results, Suite};
pub use compare::{Tolerance, Tolerances};
pub use inputs::{Input, Inputs, Numbers, Value, random};
pub use layer::Layer;
pub use list::operations;
pub use operation::{Operation, cases, launched, shaders};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::shader::Filled;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_has_cases_in_all_suites_with_unique_names() {
        for suite in [Suite::SelfTest, Suite::Test, Suite::Bench { batch: 2 }] {
            let cases = cases(operations(), suite);
            let names: BTreeSet<_> = cases.iter().map(Case::name).collect();
            assert_eq!(names.len(), cases.len(), "{suite:?}: a name twice");
        }
        for operation in operations().iter().filter(|operation| operation.name() != "peak") {
            for suite in [Suite::SelfTest, Suite::Test, Suite::Bench { batch: 2 }] {
                assert!(
                    !operation.cases(suite).is_empty(),
                    "{} has no cases for {suite:?}",
                    operation.name()
                );
            }
            assert!(!operation.shaders().is_empty(), "{} has no shaders", operation.name());
        }
    }

    /// Returns the names and types of the fields of `struct Info { .. }` in `text`.
    fn info(text: &str) -> Vec<(String, String)> {
        let block = text
            .split_once("struct Info {")
            .expect("a struct Info")
            .1
            .split_once('}')
            .expect("its end")
            .0;
        let lines = block
            .lines()
            .map(|line| line.split("//").next().unwrap_or("").trim().trim_end_matches(','));
        let fields = lines.filter_map(|line| line.split_once(": "));
        fields.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    }

    #[test]
    fn info_blocks_are_the_same_in_both_languages() {
        for (_, filled) in shaders(operations()) {
            let ours: Vec<_> =
                filled.info.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
            assert_eq!(
                info(&filled.text),
                ours,
                "the info block of {} {}",
                filled.kernel,
                filled.variant
            );
            let binding =
                format!("@group(0) @binding({}) var<uniform> info: Info;", filled.buffers);
            assert!(filled.text.contains(&binding), "{}: no {binding}", filled.kernel);
            assert!(
                !filled.text.contains("{{") && !filled.text.contains("{%"),
                "{}: a template value was left out",
                filled.kernel
            );
        }
    }

    #[test]
    fn a_field_of_another_type_is_detected() {
        let text = "struct Info {\n    a: u32, // first\n    b: f32,\n}";
        assert_eq!(info(text), [("a".into(), "u32".into()), ("b".into(), "f32".into())]);
        assert_ne!(info(&text.replace("a: u32", "a: f32")), info(text));
    }

    #[test]
    fn every_operation_runs_without_extensions() {
        for operation in operations() {
            let all = operation.shaders();
            let with = |kernel: &str, has: fn(&Filled) -> bool| {
                all.iter().any(|filled| filled.kernel == kernel && has(filled))
            };
            let kernels: BTreeSet<_> = all.iter().map(|filled| filled.kernel).collect();
            // Shaders of cooperative matrices have replacements without extensions.
            for kernel in kernels
                .into_iter()
                .filter(|kernel| !with(kernel, |filled| filled.extensions.cooperative_matrix))
            {
                assert!(
                    with(kernel, |f| f.extensions.names().is_empty()),
                    "{kernel} has no variant without extensions"
                );
            }
        }
    }
}
