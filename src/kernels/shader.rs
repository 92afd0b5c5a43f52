//! The description of a hand-written shader: its text, its info block, its buffers and the
//! extensions that it needs.

pub use minijinja::{Value, context};

use super::template::render;
use crate::device::Extensions;
use burn::backend::wgpu::{KernelSource, SourceTemplate};
use burn::cubecl::prelude::{ExecutionMode, KernelId};
use burn::tensor::DType;
use bytemuck::Pod;

use std::fmt::Debug;
use std::hash::Hash;

/// An element type in a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// 32 bits.
    F32,
    /// 16 bits; an extension.
    F16,
}

impl Elem {
    /// Returns its name in WGSL.
    pub fn wgsl(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Returns Burn's type for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }

    /// Returns the element type for `dtype`, if shaders have it.
    pub fn of(dtype: DType) -> Option<Self> {
        [Self::F32, Self::F16].into_iter().find(|elem| elem.dtype() == dtype)
    }
}

/// The types of one shader. shaders/shared/types.wgsl says which values are stored as which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Types {
    /// The storage type of feature maps and packed weights.
    pub elem: Elem,
    /// The type of computation and accumulation.
    pub acc: Elem,
    /// The type that the factors of products are rounded to.
    pub factors: Elem,
}

impl Types {
    /// Everything in f32.
    pub const F32: Self = Self { elem: Elem::F32, acc: Elem::F32, factors: Elem::F32 };
    /// Feature maps in f16, sums in f32.
    pub const F16: Self = Self { elem: Elem::F16, acc: Elem::F32, factors: Elem::F16 };
    /// Feature maps in f32, factors rounded to f16 as they are read: for adapters without f16.
    pub const ROUNDED: Self = Self { elem: Elem::F32, acc: Elem::F32, factors: Elem::F16 };
    /// The types that shaders are instantiated with.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];
    /// The types that shaders of products are instantiated with.
    pub const PRODUCTS: [Self; 3] = [Self::F32, Self::F16, Self::ROUNDED];

    /// Returns the types for feature maps of `elem`.
    pub fn of(elem: Elem) -> Self {
        Self::product(elem, elem)
    }

    /// Returns the types for products of feature maps of `elem` with factors rounded to `factors`,
    /// or to f16 if the maps are f16.
    pub fn product(elem: Elem, factors: Elem) -> Self {
        let factors = if elem == Elem::F16 { elem } else { factors };
        Self { elem, acc: Elem::F32, factors }
    }
}

/// An info block, which a shader reads as `var<uniform> info: Info`. It has the same fields and
/// types as the WGSL struct. Declared by [`info_block!`](crate::info_block).
pub trait Info: Pod {
    /// Returns the names and WGSL types of the fields, in order. A test compares them with the text
    /// of every shader.
    fn fields() -> Vec<(&'static str, String)>;
}

/// A type that a field of an info block can have.
pub trait InfoField {
    /// Returns its name in WGSL.
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

/// An array with elements of 16 bytes, as uniforms require.
impl<const N: usize> InfoField for [[i32; 4]; N] {
    fn wgsl() -> String {
        format!("array<vec4<i32>, {N}>")
    }
}

/// Declares info blocks: plain structs of u32, f32 and arrays of four i32, with the layout of a
/// WGSL uniform of the same fields. A declaration of a single block may be generic over the length
/// of an array: it is packed, as bytemuck then requires, which doesn't change the layout of its
/// fields.
#[macro_export]
macro_rules! info_block {
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
pub(crate) use info_block as info;

/// One shader with its template values, which its text depends on and nothing else.
pub trait Shader: Copy + Debug + Eq + Hash + Send + Sync + 'static {
    /// Its info block.
    type Info: Info;
    /// Its file under shaders/, without the extension.
    const FILE: &'static str;
    /// The text of that file.
    const TEXT: &'static str;
    /// The number of storage buffers that it binds, from 0 on; the info block follows.
    const BUFFERS: usize;

    /// Returns the number of invocations of a workgroup.
    fn workgroup(&self) -> u32;

    /// Returns the template values, without elem, acc, factors and wg.
    fn values(&self) -> Value;

    /// Returns its types.
    fn types(&self) -> Types {
        Types::F32
    }

    /// Returns the extensions that an adapter needs to run it.
    fn extensions(&self) -> Extensions {
        let Types { elem, acc, .. } = self.types();
        Extensions { f16: [elem, acc].contains(&Elem::F16), ..Extensions::default() }
    }

    /// Returns the multiply-adds of an invocation in one iteration of each loop that performs them;
    /// none for memory-bound shaders.
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

/// A shader as a kernel of cubecl. Its id contains all template values, and says that nothing is
/// checked for it: neither that indices are within bounds nor that loops end.
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

/// An instantiated shader, for code that checks, lists or compiles the texts.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The file under shaders/, without its extension.
    pub kernel: &'static str,
    /// The template values, for people to read.
    pub variant: String,
    /// The complete WGSL text.
    pub text: String,
    /// The invocations of a workgroup.
    pub workgroup: u32,
    /// The number of storage buffers that it binds; the info block, a uniform, follows.
    pub buffers: usize,
    /// The extensions that it needs.
    pub extensions: Extensions,
    /// The multiply-adds of an invocation in one iteration of each loop that performs them; none
    /// for memory-bound shaders.
    pub multiply_adds: Vec<u32>,
    /// The names and types of the info block's fields, as the program writes them.
    pub info: Vec<(&'static str, String)>,
}

impl Filled {
    /// Instantiates `shader`.
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
        /// An example of a shader's info block.
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
    fn types_match_those_of_tensors() {
        assert_eq!(Elem::of(DType::F16), Some(Elem::F16));
        assert_eq!(Elem::of(DType::I32), None);
        assert_eq!(Types::of(Elem::F16), Types::F16);
        assert_eq!(Types::product(Elem::F16, Elem::F32), Types::F16);
        assert_eq!(Types::product(Elem::F32, Elem::F16), Types::ROUNDED);
    }
}
