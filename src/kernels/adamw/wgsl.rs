//! Launches of the optimizer's shaders on cubecl's wgpu runtime.

use super::inputs::TOGETHER;
use super::loss_scale::{self, LossScale, LossScaleInfo, STATE, Scaled};
use super::norm::{PARTIALS, squares_work};
use super::{AdamW, AdamWInputs, AdamWParameter, Several, SquareSums, forward_work, reference};
use crate::device::Class;
use crate::kernels::adapter::{class, on_wgpu};
use crate::kernels::launch::launch;
use crate::kernels::layout;
use crate::kernels::operand::Optional;
use crate::kernels::shader::{Elem, Filled, Shader, info};
use crate::kernels::work::Work;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::Shape;
use minijinja::{Value, context};

info! {
    /// The info block of the update. Values that change with every update are in a tensor, so that
    /// the launches of all steps share the same few blocks.
    struct UpdateInfo {
        count: u32,
    }

    /// The info block of the shader of squares.
    struct SquaresInfo {
        begins: u32,
        count0: u32,
        parts0: u32,
        count1: u32,
        parts1: u32,
        count2: u32,
        parts2: u32,
        count3: u32,
        parts3: u32,
        count4: u32,
        parts4: u32,
        count5: u32,
        parts5: u32,
    }

    /// The info block of the shader of the norm.
    struct NormInfo {
        count: u32,
    }
}

/// shaders/adamw.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Update {
    four: bool,
}

impl Shader for Update {
    type Info = UpdateInfo;
    const FILE: &'static str = "adamw";
    const TEXT: &'static str = include_str!("../../../shaders/adamw.wgsl");
    const BUFFERS: usize = 7;

    fn workgroup(&self) -> u32 {
        // Without barriers, many invocations suit every adapter.
        256
    }

    fn values(&self) -> Value {
        context! { four => self.four }
    }
}

/// Returns the invocations of a workgroup that computes sums.
fn adding(class: Class) -> u32 {
    match class {
        Class::Gpu => 256,
        Class::Software => 32,
    }
}

/// shaders/squares.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Squares {
    wg: u32,
    four: bool,
}

impl Shader for Squares {
    type Info = SquaresInfo;
    const FILE: &'static str = "squares";
    const TEXT: &'static str = include_str!("../../../shaders/squares.wgsl");
    const BUFFERS: usize = TOGETHER + 1;

    fn workgroup(&self) -> u32 {
        self.wg
    }

    fn values(&self) -> Value {
        context! { four => self.four, tensors => TOGETHER }
    }
}

/// shaders/norm.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Norm {
    wg: u32,
}

impl Shader for Norm {
    type Info = NormInfo;
    const FILE: &'static str = "norm";
    const TEXT: &'static str = include_str!("../../../shaders/norm.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        self.wg
    }

    fn values(&self) -> Value {
        context! {}
    }
}

/// shaders/loss_scale.wgsl
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NextScale;

impl Shader for NextScale {
    type Info = LossScaleInfo;
    const FILE: &'static str = "loss_scale";
    const TEXT: &'static str = include_str!("../../../shaders/loss_scale.wgsl");
    const BUFFERS: usize = 5;

    fn workgroup(&self) -> u32 {
        1
    }

    fn values(&self) -> Value {
        context! {}
    }
}

impl LossScale for CubeBackend {
    fn next(
        norm: FloatTensor<Self>,
        state: FloatTensor<Self>,
        info: LossScaleInfo,
    ) -> Scaled<Self> {
        if !on_wgpu(&norm) {
            return loss_scale::on_host::<Self>(norm, state, info);
        }
        let [norm, state] = [("the norm", norm), ("the state", state)]
            .map(|(name, tensor)| contiguous(name, tensor));
        let [clip, unscaled, new] =
            [1, 1, STATE].map(|n| layout::empty_acc(&norm, Shape::new([n])));
        let work = Work::floats(&[3 + 2 * STATE]);
        launch("loss scale", NextScale, 1, &[&norm, &state, &clip, &unscaled, &new], &info, work);
        Scaled { clip, norm: unscaled, state: new }
    }
}

/// Returns all variants.
pub(super) fn shaders() -> Vec<Filled> {
    [Class::Gpu, Class::Software].into_iter().flat_map(of_class).collect()
}

/// Returns the variants for GPUs.
pub(super) fn launched() -> Vec<Filled> {
    of_class(Class::Gpu)
}

fn of_class(class: Class) -> Vec<Filled> {
    let wg = adding(class);
    let mut all = vec![Filled::new(Norm { wg }), Filled::new(NextScale)];
    for four in [false, true] {
        all.extend([Filled::new(Update { four }), Filled::new(Squares { wg, four })]);
    }
    all
}

fn contiguous(name: &str, tensor: CubeTensor) -> CubeTensor {
    layout::check("adamw", name, &tensor, Elem::F32);
    into_contiguous(tensor)
}

/// Returns `tensor` in memory that may be written to: its own memory if it has no other owner,
/// otherwise a copy.
fn owned(name: &str, tensor: CubeTensor) -> CubeTensor {
    let tensor = contiguous(name, tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Returns the number of units in `n` values, and whether a unit has four values.
fn units(n: usize) -> (usize, bool) {
    let four = n.is_multiple_of(4);
    (if four { n / 4 } else { n }, four)
}

impl AdamW for CubeBackend {
    fn forward(inputs: AdamWInputs<Self>) -> AdamWParameter<Self> {
        if !on_wgpu(&inputs.grad) {
            return reference::forward(inputs);
        }
        let AdamWInputs {
            parameter: AdamWParameter { weight, first, second, average },
            grad,
            clip,
            factors,
        } = inputs;
        let [weight, first] = [owned("weight", weight), owned("first", first)];
        let [second, average] = [owned("second", second), owned("average", average)];
        let [grad, clip, factors] =
            [contiguous("grad", grad), contiguous("clip", clip), contiguous("factors", factors)];
        let n = weight.meta.shape().num_elements();
        let (count, four) = units(n);
        let shader = Update { four };
        launch(
            "adamw",
            shader,
            count.div_ceil(shader.workgroup() as usize),
            &[&weight, &first, &second, &average, &grad, &clip, &factors],
            &UpdateInfo { count: count as u32 },
            forward_work(n),
        );
        AdamWParameter { weight, first, second, average }
    }
}

/// Returns how many partial sums `n` values are added to: few enough that every invocation of a
/// workgroup has some of the values.
fn parts(n: usize) -> usize {
    const LEAST: usize = 1 << 14;
    n.div_ceil(LEAST).clamp(1, PARTIALS)
}

impl SquareSums for CubeBackend {
    /// Adds to the partial sums in place: one for each workgroup, for all tensors together.
    fn add(tensors: Several<Self>, sums: Optional<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&tensors.first) {
            return reference::add_squares(tensors, sums);
        }
        let tensors: Vec<CubeTensor> =
            tensors.into_vec().into_iter().map(|x| contiguous("a gradient", x)).collect();
        let first = &tensors[0];
        let lengths: Vec<usize> = tensors.iter().map(|x| x.meta.shape().num_elements()).collect();
        let mut shares: Vec<usize> = lengths.iter().map(|n| parts(*n)).collect();
        let (partials, begins) = match sums {
            // Every workgroup must initialise its partial sum.
            Optional::Absent => {
                shares[0] = PARTIALS;
                (layout::empty_acc(first, Shape::new([PARTIALS])), 1)
            }
            Optional::Given(sums) => (owned("the sums of squares", sums), 0),
        };
        let four = units(lengths[0]).1;
        assert!(
            lengths.iter().all(|n| units(*n).1 == four),
            "norm: some lengths are multiples of four, others aren't"
        );
        let workgroups = shares.iter().copied().max().unwrap_or(1);
        // Unused bindings get the first tensor again, which no workgroup reads through them.
        let buffers: Vec<&CubeTensor> = (0..TOGETHER)
            .map(|i| tensors.get(i).unwrap_or(first))
            .chain(std::iter::once(&partials))
            .collect();
        let [
            (count0, parts0),
            (count1, parts1),
            (count2, parts2),
            (count3, parts3),
            (count4, parts4),
            (count5, parts5),
        ] = std::array::from_fn(|i| {
            lengths.get(i).map_or((0, 0), |n| (units(*n).0 as u32, shares[i] as u32))
        });
        let info = SquaresInfo {
            begins,
            count0,
            parts0,
            count1,
            parts1,
            count2,
            parts2,
            count3,
            parts3,
            count4,
            parts4,
            count5,
            parts5,
        };
        let shader = Squares { wg: adding(class(first)), four };
        launch(
            "gradient norm",
            shader,
            workgroups,
            &buffers,
            &info,
            squares_work(lengths.iter().sum()),
        );
        partials
    }

    fn alone(tensor: FloatTensor<Self>, first: bool) -> FloatTensor<Self> {
        let sums = match first || !on_wgpu(&tensor) {
            true => Optional::Absent,
            // Only the first tensor of a sum is divided among all workgroups.
            false => Optional::Given(CubeBackend::float_zeros(
                Shape::new([PARTIALS]),
                &tensor.device,
                tensor.dtype.into(),
            )),
        };
        Self::add(Several::new(tensor, std::iter::empty()), sums)
    }

    fn root(sums: FloatTensor<Self>) -> FloatTensor<Self> {
        if !on_wgpu(&sums) {
            return reference::root::<Self>(sums);
        }
        let count = sums.meta.shape().num_elements();
        let norm = layout::empty_acc(&sums, Shape::new([1]));
        let shader = Norm { wg: adding(class(&sums)) };
        launch(
            "gradient norm",
            shader,
            1,
            &[&sums, &norm],
            &NormInfo { count: count as u32 },
            Work::floats(&[count]),
        );
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_within_the_number_of_partial_sums() {
        assert_eq!([1, 1 << 14, (1 << 14) + 1, 1 << 30].map(parts), [1, 1, 2, PARTIALS]);
    }
}
