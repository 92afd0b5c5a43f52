//! Shader templates: the files under shaders/ use Jinja syntax, so that tile sizes are constants,
//! register blocks are unrolled, and code common to several shaders is written once, under
//! shaders/shared/.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, State, UndefinedBehavior, Value};
use std::sync::LazyLock;

/// The files that templates include or import, by the name they use.
const SHARED: &[(&str, &str)] = &[
    ("shared/ada_gn_info.wgsl", include_str!("../../shaders/shared/ada_gn_info.wgsl")),
    (
        "shared/attention_backward.wgsl",
        include_str!("../../shaders/shared/attention_backward.wgsl"),
    ),
    ("shared/attention_rows.wgsl", include_str!("../../shaders/shared/attention_rows.wgsl")),
    ("shared/attention_tiles.wgsl", include_str!("../../shaders/shared/attention_tiles.wgsl")),
    ("shared/columns.wgsl", include_str!("../../shaders/shared/columns.wgsl")),
    ("shared/conv2d_operands.wgsl", include_str!("../../shaders/shared/conv2d_operands.wgsl")),
    (
        "shared/conv2d_weights_operands.wgsl",
        include_str!("../../shaders/shared/conv2d_weights_operands.wgsl"),
    ),
    ("shared/dropout.wgsl", include_str!("../../shaders/shared/dropout.wgsl")),
    ("shared/four.wgsl", include_str!("../../shaders/shared/four.wgsl")),
    ("shared/matrix_product.wgsl", include_str!("../../shaders/shared/matrix_product.wgsl")),
    ("shared/matrix_sums.wgsl", include_str!("../../shaders/shared/matrix_sums.wgsl")),
    ("shared/matrix_tiles.wgsl", include_str!("../../shaders/shared/matrix_tiles.wgsl")),
    ("shared/max_pool_window.wgsl", include_str!("../../shaders/shared/max_pool_window.wgsl")),
    ("shared/tiled_product.wgsl", include_str!("../../shaders/shared/tiled_product.wgsl")),
    ("shared/tree.wgsl", include_str!("../../shaders/shared/tree.wgsl")),
    ("shared/types.wgsl", include_str!("../../shaders/shared/types.wgsl")),
];

/// Renders the template `text` with `values` and returns the WGSL text.
///
/// # Panics
/// If the template is malformed or uses a value that isn't given (a test renders every variant in
/// the catalogue).
pub(crate) fn render(text: &str, values: Value) -> String {
    ENVIRONMENT
        .render_str(text, values)
        .unwrap_or_else(|e| panic!("a shader template can't be rendered: {e:#}"))
}

/// The Jinja environment with our settings, functions and shared templates.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("Jinja's own syntax"),
    );
    // The first reach of a tree over `n` invocations: half of the smallest power of two that is at
    // least n.
    environment.add_function("reach", |n: u32| n.next_power_of_two() / 2);
    // Four values from memory as a factor of a product: shared/types.wgsl.
    environment.add_function("factor", |state: &State, text: &str| {
        if rounds(state) { format!("rounded({text})") } else { text.into() }
    });
    for &(name, text) in SHARED {
        environment.add_template(name, text).unwrap_or_else(|e| panic!("shaders/{name}: {e:#}"));
    }
    environment
});

/// Returns whether factors are rounded to another type than they are stored in.
fn rounds(state: &State) -> bool {
    state.lookup("factors").is_some_and(|factors| Some(factors) != state.lookup("elem"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn loops_are_unrolled() {
        let text = "{% for i in range(n) %}\nlet a{{ i }} = {{ i * 2 }}u;\n{% endfor %}\n";
        assert_eq!(render(text, context! { n => 2 }), "let a0 = 0u;\nlet a1 = 2u;\n");
    }

    #[test]
    fn shared_macros_are_imported() {
        let text = "{% from \"shared/tree.wgsl\" import tree %}\n{{ tree([\"sums\"], 6, 4) }}";
        let tree = render(text, context! {});
        assert!(tree.contains("reach = 4u") && tree.contains("lane + reach < 6u"), "{tree}");
        assert!(tree.contains("sums[lid] += sums[lid + reach * 4u];"), "{tree}");
    }

    #[test]
    #[should_panic(expected = "undefined")]
    fn missing_values_are_refused() {
        render("{{ n }}", context! {});
    }
}
