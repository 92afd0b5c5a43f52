//! Templates of shaders: the files under shaders/ in Jinja's syntax, so that tile sizes are constants and register blocks are
//! written out.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};

/// The WGSL text of template `text` with `values`.
///
/// # Panics
/// If the template is malformed or uses a value that isn't given (tests/shaders.rs renders every variant).
pub(crate) fn render(text: &str, values: Value) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("Jinja's own syntax"));
    environment.render_str(text, values).unwrap_or_else(|e| panic!("the template of a shader: {e:#}"))
}

/// Makes a type that is all values of a shader, and whose `wgsl()` is its text, a kernel of cubecl.
macro_rules! kernel_source {
    ($shader:ty) => {
        impl burn::backend::wgpu::KernelSource for $shader {
            fn source(&self) -> burn::backend::wgpu::SourceTemplate {
                burn::backend::wgpu::SourceTemplate::new(self.wgsl())
            }

            fn id(&self) -> burn::cubecl::prelude::KernelId {
                burn::cubecl::prelude::KernelId::new::<Self>().info(*self)
            }

            fn lang(&self) -> &'static str {
                "wgsl"
            }
        }
    };
}
pub(crate) use kernel_source;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_loops_out() {
        let text = "{% for i in range(n) %}\nlet a{{ i }} = {{ i * 2 }}u;\n{% endfor %}\n";
        assert_eq!(render(text, minijinja::context! { n => 2 }), "let a0 = 0u;\nlet a1 = 2u;\n");
    }

    #[test]
    #[should_panic(expected = "undefined")]
    fn refuses_values_that_are_missing() {
        render("{{ n }}", minijinja::context! {});
    }
}
