//! Adam, the optimiser of the probe, one parameter at a time.

/// PyTorch's defaults.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const ADAM_EPS: f32 = 1e-8;

/// A parameter tensor with Adam's two moments; `T` is f32 or a row of f32.
#[derive(Clone, Debug)]
pub(super) struct Adam<T = f32> {
    pub(super) value: Vec<T>,
    pub(super) grad: Vec<T>,
    pub(super) m: Vec<T>,
    pub(super) v: Vec<T>,
}

impl<T: Copy> Adam<T> {
    pub(super) fn new(value: Vec<T>, zero: T) -> Self {
        let zeros = vec![zero; value.len()];
        Self { value, grad: zeros.clone(), m: zeros.clone(), v: zeros }
    }
}

/// Adam's step size and the square root of its second bias correction at one step.
#[derive(Clone, Copy)]
pub(super) struct AdamStep {
    pub(super) size: f32,
    pub(super) root_correction: f32,
}

impl AdamStep {
    /// Computes both for `step`, which counts from 1.
    pub(super) fn new(lr: f64, step: usize) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            size: (lr / correction(BETA_1)) as f32,
            root_correction: correction(BETA_2).sqrt() as f32,
        }
    }

    pub(super) fn apply(self, value: &mut f32, grad: f32, m: &mut f32, v: &mut f32) {
        *m += (grad - *m) * (1.0 - BETA_1) as f32;
        *v = *v * BETA_2 as f32 + grad * grad * (1.0 - BETA_2) as f32;
        *value -= self.size * *m / (v.sqrt() / self.root_correction + ADAM_EPS);
    }
}
