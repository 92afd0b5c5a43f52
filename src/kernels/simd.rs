//! Loops compiled for the widest vectors of this processor.

use pulp::{Simd, WithSimd};
use std::any::TypeId;
use std::sync::OnceLock;

/// A loop that is compiled once per instruction set. `run` and everything it calls must be marked
/// `#[inline(always)]`: code that isn't inlined is compiled for the baseline instruction set. (This
/// is a trait because nothing can force a closure to be inlined.)
pub(crate) trait Loop<A> {
    type Output;

    /// Runs the loop. `FMA` says whether [`f32::mul_add`] is one instruction; otherwise it would be
    /// a library call.
    fn run<const FMA: bool>(arguments: A) -> Self::Output;
}

/// Calls `L::run(arguments)`, compiled for AVX-512, AVX2 or NEON if the processor has it.
#[inline]
pub(crate) fn vectorised<L: Loop<A>, A>(arguments: A) -> L::Output {
    struct Call<L, A>(std::marker::PhantomData<L>, A);
    impl<L: Loop<A>, A> WithSimd for Call<L, A> {
        type Output = L::Output;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> L::Output {
            if TypeId::of::<S>() == TypeId::of::<pulp::Scalar128b>() {
                L::run::<false>(self.1)
            } else {
                L::run::<true>(self.1)
            }
        }
    }
    Path::best().run(Call::<L, A>(std::marker::PhantomData, arguments))
}

/// The channels that are processed together: one AVX-512 vector, two AVX2 vectors, four of NEON.
pub(crate) const LANES: usize = 16;

/// One value for each of [`LANES`] channels.
pub(crate) type Lanes = [f32; LANES];

/// Returns the channels 0..n in blocks: (first channel, channels in the block). If all blocks are
/// `WHOLE`, the compiler knows their size. Otherwise [`load`] and [`store`] are calls that copy
/// memory, and nothing stays in registers across them.
#[inline(always)]
pub(crate) fn blocks<const WHOLE: bool>(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels)
        .step_by(LANES)
        .map(move |first| (first, if WHOLE { LANES } else { LANES.min(channels - first) }))
}

/// Returns whether all blocks of `channels` channels are whole.
#[inline(always)]
pub(crate) fn whole(channels: usize) -> bool {
    channels.is_multiple_of(LANES)
}

/// Returns the first `count` values of `from`, with zeros in the other lanes.
#[inline(always)]
pub(crate) fn load(from: &[f32], count: usize) -> Lanes {
    if count == LANES {
        return *from.first_chunk().expect("a whole block");
    }
    let mut lanes = [0.0; LANES];
    lanes[..count].copy_from_slice(&from[..count]);
    lanes
}

/// Returns the `count` values of each slice from `first` on, as [`load`] does. (A closure that
/// borrows `count` hides from the compiler that a block is whole.)
#[inline(always)]
pub(crate) fn load_each<const N: usize>(
    from: [&[f32]; N],
    first: usize,
    count: usize,
) -> [Lanes; N] {
    let mut lanes = [[0.0; LANES]; N];
    for (lanes, from) in lanes.iter_mut().zip(from) {
        *lanes = load(&from[first..], count);
    }
    lanes
}

/// Writes the first `count` lanes to `to`.
#[inline(always)]
pub(crate) fn store(to: &mut [f32], count: usize, lanes: &Lanes) {
    if count == LANES {
        *to.first_chunk_mut().expect("a whole block") = *lanes;
    } else {
        to[..count].copy_from_slice(&lanes[..count]);
    }
}

/// The path chosen by [`Path::force`].
static FORCED: OnceLock<Path> = OnceLock::new();

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    /// 16 lanes, 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// 8 lanes with fused multiply-add, 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// 4 lanes, 32 registers.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// Arrays of 4, left to the compiler.
    Plain(pulp::Scalar128b),
}

impl Path {
    /// Returns the paths of this machine, fastest first; never empty.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let fast =
            [pulp::x86::V4::try_new().map(Self::Avx512), pulp::x86::V3::try_new().map(Self::Avx2)];
        #[cfg(target_arch = "aarch64")]
        let fast = [pulp::aarch64::Neon::try_new().map(Self::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let fast = [None; 0];
        fast.into_iter().flatten().chain([Self::Plain(pulp::Scalar128b)])
    }

    /// Returns the fastest path of this machine, unless [`Path::force`] chose another.
    pub fn best() -> Self {
        FORCED
            .get()
            .copied()
            .or_else(|| Self::available().next())
            .unwrap_or(Self::Plain(pulp::Scalar128b))
    }

    /// Makes [`Path::best`] return the path called `name` for the rest of the process: "avx512",
    /// "avx2", "neon" or "plain".
    ///
    /// # Errors
    /// If this machine has no such path (the message names those that it has), or if a path was
    /// already forced.
    pub fn force(name: &str) -> Result<(), String> {
        let names = || Self::available().map(Self::name).collect::<Vec<_>>().join(", ");
        let path = Self::available().find(|path| path.name() == name);
        let path = path
            .ok_or_else(|| format!("this machine has no SIMD path {name:?}, only {}", names()))?;
        FORCED.set(path).map_err(|_| "a SIMD path was already forced".to_owned())
    }

    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Plain(_) => "plain",
        }
    }

    /// Returns the f32 lanes of a vector.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 8,
            _ => 4,
        }
    }

    /// Runs `op` compiled for this instruction set.
    pub fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, op),
            Self::Plain(simd) => Simd::vectorize(simd, op),
        }
    }
}

/// Returns a * b + c. The plain path rounds twice: without the instruction, a fused multiply-add is
/// a library call.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if TypeId::of::<S>() == TypeId::of::<pulp::Scalar128b>() {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_e_f32s(a, b, c)
    }
}
