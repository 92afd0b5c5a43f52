//! Running loops on the widest vectors of this processor.

/// A loop worth compiling several times. `run` must be marked `#[inline(always)]`, and so must what it calls: code that isn't
/// inlined is compiled for the plain instruction set. (That is why this is a trait and no closure: nothing can force a
/// closure to be inlined.)
pub(crate) trait Loop<A> {
    type Output;

    fn run(arguments: A) -> Self::Output;
}

/// `L::run(arguments)`, compiled for AVX-512, AVX2 or NEON where the processor has them.
#[inline]
pub(crate) fn vectorised<L: Loop<A>, A>(arguments: A) -> L::Output {
    struct Call<L, A>(std::marker::PhantomData<L>, A);
    impl<L: Loop<A>, A> pulp::NullaryFnOnce for Call<L, A> {
        type Output = L::Output;

        #[inline(always)]
        fn call(self) -> L::Output {
            L::run(self.1)
        }
    }
    pulp::Arch::new().dispatch(Call::<L, A>(std::marker::PhantomData, arguments))
}

/// Channels that are worked on together: one AVX-512 vector, two of AVX2, four of NEON.
pub(crate) const LANES: usize = 16;

/// One value for each of [`LANES`] channels.
pub(crate) type Lanes = [f32; LANES];

/// The channels 0..n in blocks: (first channel, channels in the block).
#[inline(always)]
pub(crate) fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels).step_by(LANES).map(move |first| (first, LANES.min(channels - first)))
}

/// The first `count` values of `from`, zeros in the other lanes.
#[inline(always)]
pub(crate) fn load(from: &[f32], count: usize) -> Lanes {
    if count == LANES {
        return *from.first_chunk().expect("a whole block");
    }
    let mut lanes = [0.0; LANES];
    lanes[..count].copy_from_slice(&from[..count]);
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
