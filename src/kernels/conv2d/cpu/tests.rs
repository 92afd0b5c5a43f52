//! Tests of the CPU convolutions over slices against plain loops.

use super::*;

/// Returns pseudo-random values, uniform in [-1, 1).
fn uniform(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

struct Data {
    shape: ConvShape,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Data {
    fn new(shape: ConvShape) -> Self {
        let (x, w) = (uniform(shape.inputs_len(), 1), uniform(shape.weights_len(), 2));
        Self { shape, x, w, bias: uniform(shape.c_out, 3), dy: uniform(shape.outputs_len(), 4) }
    }

    /// Computes y, dx, dw and db by the kernels. Outputs start as NaN, so that a missing element
    /// shows.
    fn kernels(&self, path: Path) -> [Vec<f32>; 4] {
        let nan = |len| vec![f32::NAN; len];
        let mut out = [self.dy.len(), self.x.len(), self.w.len(), self.bias.len()].map(nan);
        let [y, dx, dw, db] = &mut out;
        // Any values of y's shape will do as a residual.
        forward_on(path, &self.shape, &self.x, &self.w, Some(&self.bias), Some(&self.dy), y);
        transposed_on(path, &self.shape, &self.dy, &self.w, None, None, dx);
        grad_weight_on(path, &self.shape, &self.x, &self.dy, dw);
        grad_bias(&self.shape, &self.dy, db);
        out
    }

    /// Computes the same by plain loops in f64.
    fn reference(&self) -> [Vec<f64>; 4] {
        let s = &self.shape;
        let mut out = [self.dy.len(), self.x.len(), self.w.len(), self.bias.len()]
            .map(|len| vec![0.0f64; len]);
        let [y, dx, dw, db] = &mut out;
        for (m, dy) in self.dy.chunks(s.c_out).enumerate() {
            let (n, oy, ox) = (
                m / (s.out_height() * s.out_width()),
                m / s.out_width() % s.out_height(),
                m % s.out_width(),
            );
            for co in 0..s.c_out {
                y[m * s.c_out + co] += f64::from(self.bias[co]) + f64::from(dy[co]);
                db[co] += f64::from(dy[co]);
            }
            for (ky, kx) in (0..s.kernel).flat_map(|ky| (0..s.kernel).map(move |kx| (ky, kx))) {
                let (iy, ix) = (
                    (oy * s.stride + ky).wrapping_sub(s.padding),
                    (ox * s.stride + kx).wrapping_sub(s.padding),
                );
                if iy >= s.height || ix >= s.width {
                    continue;
                }
                for co in 0..s.c_out {
                    for ci in 0..s.c_in {
                        let x_at = ((n * s.height + iy) * s.width + ix) * s.c_in + ci;
                        let w_at = ((co * s.c_in + ci) * s.kernel + ky) * s.kernel + kx;
                        let (x, w, dy) =
                            (f64::from(self.x[x_at]), f64::from(self.w[w_at]), f64::from(dy[co]));
                        y[m * s.c_out + co] += x * w;
                        dx[x_at] += dy * w;
                        dw[w_at] += x * dy;
                    }
                }
            }
        }
        out
    }
}

/// Returns why `got` differs from `want` by more than `tolerance` of the largest entry, if it does.
fn difference(got: &[f32], want: &[f64], tolerance: f64) -> Option<String> {
    if let Some(at) = got.iter().position(|v| !v.is_finite()) {
        return Some(format!("element {at} is {}", got[at]));
    }
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let error = got.iter().zip(want).fold(0.0f64, |m, (g, w)| m.max((f64::from(*g) - w).abs()));
    (got.len() != want.len() || error > tolerance * largest)
        .then(|| format!("error {error:e} of {largest:e}"))
}

const TOLERANCES: [f64; 4] = [2e-6, 2e-6, 5e-6, 2e-6];

fn shapes() -> Vec<ConvShape> {
    let shape = |batch, c_in, c_out, height, width, kernel, stride| {
        let padding = kernel / 2;
        ConvShape { batch, c_in, c_out, height, width, kernel, stride, padding }
    };
    let mut shapes = vec![];
    for (kernel, stride) in [(3, 1), (3, 2), (1, 1), (1, 2)] {
        for (c_in, c_out) in [
            (3, 32),
            (32, 3),
            (3, 3),
            (16, 16),
            (24, 48),
            (5, 17),
            (33, 5),
            (17, 33),
            (64, 16),
            (1, 1),
            (48, 96),
        ] {
            for (height, width) in [(4, 4), (2, 2), (1, 1), (7, 5), (8, 9)] {
                shapes.push(shape(2, c_in, c_out, height, width, kernel, stride));
            }
        }
        shapes.push(shape(3, 32, 32, 32, 32, kernel, stride));
        shapes.push(shape(9, 16, 24, 17, 16, kernel, stride));
        shapes.push(shape(1, 128, 128, 8, 8, kernel, stride));
        shapes.push(shape(5, 256, 384, 2, 3, kernel, stride));
        shapes.push(shape(40, 64, 32, 4, 4, kernel, stride));
        shapes.push(shape(0, 4, 4, 4, 4, kernel, stride));
    }
    // Large enough for minimal filtering.
    shapes.push(shape(8, 17, 33, 9, 7, 3, 1));
    shapes.push(shape(6, 50, 13, 16, 11, 3, 1));
    shapes.push(shape(2, 96, 40, 16, 16, 3, 1));
    shapes.push(shape(8, 128, 128, 8, 8, 3, 1));
    shapes.push(shape(9, 48, 200, 8, 8, 3, 1));
    // Large enough for its tiles of 4x4, some of them beyond the image.
    shapes.push(shape(10, 17, 33, 13, 15, 3, 1));
    shapes.push(shape(25, 13, 12, 8, 8, 3, 1));
    shapes.push(shape(7, 64, 48, 16, 12, 3, 1));
    shapes.push(shape(2, 8, 8, 9, 11, 5, 1));
    shapes.push(shape(2, 8, 20, 9, 11, 5, 2));
    shapes.push(shape(2, 8, 20, 11, 10, 5, 3));
    shapes.push(shape(3, 3, 64, 32, 32, 7, 2));
    shapes.push(shape(2, 20, 12, 9, 11, 7, 2));
    shapes.push(shape(2, 5, 33, 6, 9, 7, 1));
    shapes.push(shape(1, 3, 16, 1, 1, 7, 2));
    shapes.push(ConvShape { padding: 1, ..shape(2, 24, 17, 10, 8, 4, 2) });
    shapes.push(ConvShape { padding: 0, ..shape(2, 8, 8, 9, 10, 3, 1) });
    shapes.push(ConvShape { padding: 0, ..shape(2, 8, 8, 9, 10, 3, 2) });
    shapes.push(ConvShape { padding: 2, ..shape(2, 8, 8, 9, 10, 3, 2) });
    shapes.push(ConvShape { padding: 3, ..shape(2, 8, 8, 5, 6, 3, 1) });
    shapes.push(ConvShape { padding: 1, ..shape(2, 8, 8, 5, 6, 1, 2) });
    shapes
}

#[test]
fn all_passes_agree_with_plain_loops_on_every_path() {
    for shape in shapes() {
        let data = Data::new(shape);
        let want = data.reference();
        for path in Path::available() {
            let got = data.kernels(path);
            for (((got, want), tolerance), pass) in
                got.iter().zip(&want).zip(TOLERANCES).zip(["y", "dx", "dw", "db"])
            {
                if let Some(why) = difference(got, want, tolerance) {
                    panic!("{pass} of {shape:?} on {path:?}: {why}");
                }
            }
        }
    }
}

#[test]
fn one_wrong_element_is_noticed() {
    let data = Data::new(ConvShape {
        batch: 2,
        c_in: 24,
        c_out: 20,
        height: 7,
        width: 5,
        kernel: 3,
        stride: 1,
        padding: 1,
    });
    let (got, want) = (data.kernels(Path::best()), data.reference());
    for ((mut got, want), tolerance) in got.into_iter().zip(&want).zip(TOLERANCES) {
        assert!(difference(&got, want, tolerance).is_none());
        let largest =
            (0..got.len()).max_by(|a, b| got[*a].abs().total_cmp(&got[*b].abs())).unwrap();
        let right = got[largest];
        got[largest] *= 1.001;
        assert!(difference(&got, want, tolerance).is_some());
        got[largest] = right;
        got[0] = f32::NAN;
        assert!(difference(&got, want, tolerance).is_some());
    }
}

#[test]
fn results_dont_depend_on_the_number_of_threads() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = [1, 2, 5].map(pool);
    for shape in shapes() {
        let data = Data::new(shape);
        for path in Path::available() {
            let [one, two, five] = pools.each_ref().map(|pool| pool.install(|| data.kernels(path)));
            let bits = |out: [Vec<f32>; 4]| {
                out.map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let one = bits(one);
            assert!(one == bits(two) && one == bits(five), "{shape:?} on {path:?}");
        }
    }
}

#[test]
#[should_panic(expected = "the length of x")]
fn a_wrong_length_is_refused() {
    let shape = ConvShape {
        batch: 1,
        c_in: 2,
        c_out: 2,
        height: 2,
        width: 2,
        kernel: 1,
        stride: 1,
        padding: 0,
    };
    forward(&shape, &[0.0; 7], &[0.0; 4], None, None, &mut [0.0; 8]);
}
