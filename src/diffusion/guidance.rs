//! Classifier-free guidance (Ho and Salimans 2022), by the whole of z or by each of its sections.

use burn::tensor::Tensor;

/// Returns (1 + w) eps_c - w eps_u, which moves away from the prediction without z.
pub fn guided(eps_c: Tensor<4>, eps_u: Tensor<4>, w: f64) -> Tensor<4> {
    eps_c * (1.0 + w) - eps_u * w
}

/// Returns eps_c + sum_i w_i (eps_c - eps_without_i), which moves away from each of the predictions
/// `eps_without`. The i-th is made with section i of z masked and the others kept; layer masking
/// trains the network for this.
///
/// w_i strengthens the influence of section i, given the rest of z. A weight of 0 leaves its
/// section as it is and needs no prediction, so pass only the sections whose weight isn't 0. With a
/// single section that is the whole of z this equals [`guided`]. Equal weights w on all sections
/// equal [`guided`] with w only if the sections contribute additively to eps, and cost one
/// evaluation per section instead of one. All tensors are `[B, 3, side, side]`.
///
/// # Panics
/// If there are not as many weights as predictions.
pub fn guided_by(eps_c: Tensor<4>, eps_without: &[Tensor<4>], w: &[f64]) -> Tensor<4> {
    assert_eq!(
        eps_without.len(),
        w.len(),
        "one guidance weight for each prediction with a masked section"
    );
    let all = eps_c.clone() * (1.0 + w.iter().sum::<f64>());
    eps_without.iter().zip(w).fold(all, |eps, (without, &w)| eps - without.clone() * w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};
    use burn::tensor::{Device, TensorData};

    fn images(index: u64) -> Tensor<4> {
        let values = rng::normal(&mut rng::stream(1, Purpose::Test, index), 2 * 3 * 32 * 32);
        Tensor::from_data(TensorData::new(values, [2, 3, 32, 32]), &Device::flex())
    }

    fn largest(x: Tensor<4>) -> f32 {
        let data = x.abs().max().into_data().try_to_vec::<f32>().expect("f32");
        assert!(data[0].is_finite());
        data[0]
    }

    #[test]
    fn guidance_weight_0_is_the_conditional_prediction() {
        assert_eq!(largest(guided(images(0), images(1), 0.0) - images(0)), 0.0);
        let w = guided(images(0), images(1), 1.0) - (images(0) * 2.0 - images(1));
        assert!(largest(w) < 1e-5);
        assert_eq!(largest(guided_by(images(0), &[], &[]) - images(0)), 0.0);
        assert_eq!(
            largest(guided_by(images(0), &[images(1), images(2)], &[0.0, 0.0]) - images(0)),
            0.0
        );
    }

    #[test]
    fn one_section_that_is_the_whole_of_z_is_plain_guidance() {
        for w in [-0.5, 0.3, 2.0] {
            assert_eq!(
                largest(guided_by(images(0), &[images(1)], &[w]) - guided(images(0), images(1), w)),
                0.0
            );
        }
    }

    #[test]
    fn each_weight_acts_on_its_own_section() {
        // A network that sums the contributions of three sections: masking a section removes its
        // contribution, and the weights scale the contributions.
        let share = [images(1), images(2), images(3)];
        let sum =
            |scale: [f64; 3]| (0..3).fold(images(0), |eps, i| eps + share[i].clone() * scale[i]);
        let without = [sum([0.0, 1.0, 1.0]), sum([1.0, 0.0, 1.0]), sum([1.0, 1.0, 0.0])];
        let out = guided_by(sum([1.0; 3]), &without, &[0.5, 0.0, -1.0]);
        // Sums of nine values of up to about 10 in f32.
        assert!(largest(out.clone() - sum([1.5, 1.0, 0.0])) < 2e-5);
        assert!(largest(out - sum([1.0, 1.5, 0.0])) > 0.1, "the order of the sections matters");
        // With additive contributions, equal weights are guidance by the whole of z.
        let all = guided_by(sum([1.0; 3]), &without, &[0.7; 3]);
        assert!(largest(all - guided(sum([1.0; 3]), images(0), 0.7)) < 2e-5);
    }
}
