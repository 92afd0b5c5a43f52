//! AdamW and the EMA over f32 slices, in place.

use super::{
    AdamW, AdamWInputs, AdamWParameter, FACTORS, Several, SquareSums, forward_work,
    norm::squares_work, reference,
};
use crate::kernels::buffers::Buffer;
use crate::kernels::layout::flex_values;
use crate::kernels::operand::Optional;
use crate::kernels::simd::{LANES, Loop, load, store, vectorised};
use crate::kernels::timer::timer;
use burn::tensor::Shape;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// The elements of a task. It is fixed, so that the blocks of a sum don't depend on the number of
/// threads.
const TASK: usize = 1 << 15;

type Slices<'a> = (&'a mut [f32], &'a mut [f32], &'a mut [f32], &'a mut [f32], &'a [f32]);

struct Update;

impl<'a> Loop<(Slices<'a>, f32, [f32; FACTORS])> for Update {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(
        ((weight, first, second, average, grad), clip, factors): (Slices<'a>, f32, [f32; FACTORS]),
    ) {
        let [beta1, rest1, beta2, rest2, rate, correction, epsilon, shrink, ema, ema_rest] =
            factors;
        let count = weight.len();
        for at in (0..count).step_by(LANES) {
            let lanes = LANES.min(count - at);
            let g = load(&grad[at..], lanes);
            let (mut w, mut m) = (load(&weight[at..], lanes), load(&first[at..], lanes));
            let (mut v, mut e) = (load(&second[at..], lanes), load(&average[at..], lanes));
            for i in 0..LANES {
                let g = g[i] * clip;
                m[i] = m[i] * beta1 + g * rest1;
                v[i] = v[i] * beta2 + g * g * rest2;
                let update = m[i] / ((v[i] * correction).sqrt() + epsilon) * rate;
                w[i] = w[i] * shrink - update;
                e[i] = e[i] * ema + w[i] * ema_rest;
            }
            store(&mut weight[at..], lanes, &w);
            store(&mut first[at..], lanes, &m);
            store(&mut second[at..], lanes, &v);
            store(&mut average[at..], lanes, &e);
        }
    }
}

struct Squares;

impl<'a> Loop<&'a [f32]> for Squares {
    type Output = f64;

    #[inline(always)]
    fn run<const FMA: bool>(x: &'a [f32]) -> f64 {
        let mut total = 0.0;
        // f32 sums of a few values in each lane, added up in f64.
        for block in x.chunks(64 * LANES) {
            let mut sums = [0.0f32; LANES];
            for at in (0..block.len()).step_by(LANES) {
                let x = load(&block[at..], LANES.min(block.len() - at));
                for i in 0..LANES {
                    sums[i] += x[i] * x[i];
                }
            }
            total += sums.iter().map(|s| f64::from(*s)).sum::<f64>();
        }
        total
    }
}

/// Returns `tensor` in memory that holds exactly its values and can be written to: its own memory
/// if it has no other owner, otherwise a copy.
fn owned(tensor: FlexTensor) -> FlexTensor {
    let count = tensor.layout().shape().num_elements();
    if tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.storage::<f32>().len() == count
        && tensor.is_unique()
    {
        return tensor;
    }
    let shape = tensor.layout().shape().clone();
    Buffer::copy(flex_values(&tensor.to_contiguous())).tensor(shape)
}

impl AdamW for Flex {
    fn forward(inputs: AdamWInputs<Self>) -> AdamWParameter<Self> {
        let _timer = timer("adamw", || forward_work(inputs.grad.layout().shape().num_elements()));
        let AdamWInputs {
            parameter: AdamWParameter { weight, first, second, average },
            grad,
            clip,
            factors,
        } = inputs;
        let (clip, factors) = (clip.to_contiguous(), factors.to_contiguous());
        let (clip, factors) =
            (flex_values(&clip)[0], *flex_values(&factors).first_chunk().expect("all factors"));
        if clip < 0.0 {
            return AdamWParameter { weight, first, second, average };
        }
        let [mut weight, mut first, mut second, mut average] =
            [weight, first, second, average].map(owned);
        let grad = grad.to_contiguous();
        let grad = flex_values(&grad);
        let [w, m, v, e] =
            [&mut weight, &mut first, &mut second, &mut average].map(|t| t.storage_mut::<f32>());
        if grad.len() <= TASK {
            vectorised::<Update, _>(((w, m, v, e, grad), clip, factors));
        } else {
            (
                w.par_chunks_mut(TASK),
                m.par_chunks_mut(TASK),
                v.par_chunks_mut(TASK),
                e.par_chunks_mut(TASK),
                grad.par_chunks(TASK),
            )
                .into_par_iter()
                .for_each(|slices| vectorised::<Update, _>((slices, clip, factors)));
        }
        AdamWParameter { weight, first, second, average }
    }
}

impl SquareSums for Flex {
    /// Returns one value per tensor.
    fn add(tensors: Several<Self>, sums: Optional<Self>) -> FlexTensor {
        reference::append_all(tensors, sums, |x| {
            let _timer = timer("square_sum", || squares_work(x.layout().shape().num_elements()));
            let x = x.to_contiguous();
            let blocks: Vec<f64> =
                flex_values(&x).par_chunks(TASK).map(vectorised::<Squares, _>).collect();
            Buffer::copy(&[blocks.iter().sum::<f64>() as f32]).tensor(Shape::new([1]))
        })
    }
}
