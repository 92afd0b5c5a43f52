//! What describes a hand-written shader: its text, its info block, its buffers and the extensions
//! that it needs.

use super::template::render;
use crate::device::Extensions;
use burn::backend::wgpu::{KernelSource, SourceTemplate};
use burn::cubecl::prelude::{ExecutionMode, KernelId};
use burn::tensor::DType;
use bytemuck::Pod;
use minijinja::{Value, context};
use std::fmt::Debug;
use std::hash::Hash;

/// A type of numbers in a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// 32 bits.
    F32,
    /// 16 bits; an extension.
    F16,
}

impl Elem {
    /// Returns WGSL's name of it.
    pub fn wgsl(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Returns Burn's name of it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }

    /// Returns the type that `dtype` is, if shaders have it.
    pub fn of(dtype: DType) -> Option<Self> {
        [Self::F32, Self::F16].into_iter().find(|elem| elem.dtype() == dtype)
    }
}

/// The types of one shader: shaders/shared/types.wgsl says what is stored as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Types {
    /// What feature maps and packed weights are stored as.
    pub elem: Elem,
    /// What is computed and added up in.
    pub acc: Elem,
    /// What the factors of products are rounded to.
    pub factors: Elem,
}

impl Types {
    /// Everything in f32.
    pub const F32: Self = Self { elem: Elem::F32, acc: Elem::F32, factors: Elem::F32 };
    /// Feature maps in f16, sums in f32.
    pub const F16: Self = Self { elem: Elem::F16, acc: Elem::F32, factors: Elem::F16 };
    /// Feature maps in f32, factors rounded to f16 as they are read: for adapters without that
    /// type.
    pub const ROUNDED: Self = Self { elem: Elem::F32, acc: Elem::F32, factors: Elem::F16 };
    /// All that shaders are filled with.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];
    /// All that shaders of products are filled with.
    pub const PRODUCTS: [Self; 3] = [Self::F32, Self::F16, Self::ROUNDED];

    /// Returns the types for feature maps of `elem`.
    pub fn of(elem: Elem) -> Self {
        Self::product(elem, elem)
    }

    /// Returns the types for products of feature maps of `elem`, their factors rounded to `factors`
    /// at least.
    pub fn product(elem: Elem, factors: Elem) -> Self {
        let factors = if elem == Elem::F16 { elem } else { factors };
        Self { elem, acc: Elem::F32, factors }
    }
}

/// An info block: what a shader reads as `var<uniform> info: Info`, whose fields and types it
/// repeats. Made by `info!`.
pub trait Info: Pod {
    /// Returns names and WGSL types of the fields, in their order: a test compares them with the
    /// text of every shader.
    fn fields() -> Vec<(&'static str, String)>;
}

/// A type that fields of info blocks can have.
pub trait InfoField {
    /// WGSL's name of it.
    fn wgsl() -> String;
}

impl InfoField for u32 {
    fn wgsl() -> String {
        "u32".into()
    }
}

impl InfoField for f32 {
    fn wgsl() -> String {
        "f32".into()
    }
}

/// An array, of whole 16 bytes each, as uniforms want it.
impl<const N: usize> InfoField for [[i32; 4]; N] {
    fn wgsl() -> String {
        format!("array<vec4<i32>, {N}>")
    }
}

/// Declares info blocks: plain structs of u32, f32 and arrays of four i32, laid out as WGSL lays
/// out a uniform of the same fields. One alone may leave the length of an array open: it is packed,
/// as bytemuck wants it then, and its fields lie as they would otherwise.
macro_rules! info {
    ($(#[$about:meta])* struct $name:ident<const $len:ident: usize> { $($(#[$note:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[repr(C, packed)]
        #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name<const $len: usize> { $($(#[$note])* pub $field: $kind),* }

        impl<const $len: usize> $crate::kernels::shader::Info for $name<$len> {
            fn fields() -> Vec<(&'static str, String)> {
                vec![$((stringify!($field), <$kind as $crate::kernels::shader::InfoField>::wgsl())),*]
            }
        }
    };
    ($($(#[$about:meta])* struct $name:ident { $($(#[$note:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$about])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
            pub struct $name { $($(#[$note])* pub $field: $kind),* }

            impl $crate::kernels::shader::Info for $name {
                fn fields() -> Vec<(&'static str, String)> {
                    vec![$((stringify!($field), <$kind as $crate::kernels::shader::InfoField>::wgsl())),*]
                }
            }
        )*
    };
}
pub(crate) use info;

/// One shader with its template values: all that its text depends on.
pub trait Shader: Copy + Debug + Eq + Hash + Send + Sync + 'static {
    /// Its info block.
    type Info: Info;
    /// Its file under shaders/, without the ending.
    const FILE: &'static str;
    /// The text of that file.
    const TEXT: &'static str;
    /// Storage buffers that it binds, from 0 on; the info block follows.
    const BUFFERS: usize;

    /// Returns the invocations of a workgroup.
    fn workgroup(&self) -> u32;

    /// Returns the template's values, without elem, acc, factors and wg.
    fn values(&self) -> Value;

    /// Returns the types of its numbers.
    fn types(&self) -> Types {
        Types::F32
    }

    /// Returns what an adapter must have to run it.
    fn extensions(&self) -> Extensions {
        let Types { elem, acc, .. } = self.types();
        Extensions { f16: [elem, acc].contains(&Elem::F16), ..Extensions::default() }
    }

    /// Returns the multiply-adds of an invocation in one round of each loop that makes them; none
    /// where memory decides.
    fn multiply_adds(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Returns the complete WGSL text.
    fn wgsl(&self) -> String {
        let Types { elem, acc, factors } = self.types();
        let own = context! { elem => elem.wgsl(), acc => acc.wgsl(), factors => factors.wgsl(), wg => self.workgroup() };
        render(Self::TEXT, context! { ..self.values(), ..own })
    }
}

/// A shader as a kernel of cubecl. Its id holds all template values, and says that nothing is
/// checked for it: neither indices nor that loops end.
pub(super) struct Source<S>(pub S);

impl<S: Shader> KernelSource for Source<S> {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.0.wgsl())
    }

    fn id(&self) -> KernelId {
        KernelId::new::<S>().info(self.0).mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// A filled shader, for whoever checks, lists or compiles the texts.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The file under shaders/, without its ending.
    pub kernel: &'static str,
    /// Template values, for people.
    pub variant: String,
    /// The complete WGSL text.
    pub text: String,
    /// Invocations of a workgroup.
    pub workgroup: u32,
    /// Storage buffers that it binds; the info block, a uniform, follows.
    pub buffers: usize,
    /// What it needs.
    pub extensions: Extensions,
    /// Multiply-adds of an invocation in one round of each loop that makes them; none where memory
    /// decides.
    pub multiply_adds: Vec<u32>,
    /// Names and types of the info block's fields, as the program writes them.
    pub info: Vec<(&'static str, String)>,
}

impl Filled {
    /// Fills `shader`.
    pub fn new<S: Shader>(shader: S) -> Self {
        Self {
            kernel: S::FILE,
            variant: format!("{shader:?}"),
            text: shader.wgsl(),
            workgroup: shader.workgroup(),
            buffers: S::BUFFERS,
            extensions: shader.extensions(),
            multiply_adds: shader.multiply_adds(),
            info: S::Info::fields(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    info! {
        /// As a shader would have it.
        struct Example { count: u32, eps: f32, tap: [[i32; 4]; 3] }
    }

    #[test]
    fn info_blocks_know_their_fields() {
        let fields = Example::fields();
        let want = [("count", "u32"), ("eps", "f32"), ("tap", "array<vec4<i32>, 3>")];
        assert_eq!(
            fields.iter().map(|(name, kind)| (*name, kind.as_str())).collect::<Vec<_>>(),
            want
        );
        assert_eq!(size_of::<Example>(), 2 * 4 + 3 * 16);
    }

    #[test]
    fn types_are_those_of_tensors() {
        assert_eq!(Elem::of(DType::F16), Some(Elem::F16));
        assert_eq!(Elem::of(DType::I32), None);
        assert_eq!(Types::of(Elem::F16), Types::F16);
        assert_eq!(Types::product(Elem::F16, Elem::F32), Types::F16);
        assert_eq!(Types::product(Elem::F32, Elem::F16), Types::ROUNDED);
    }
}
