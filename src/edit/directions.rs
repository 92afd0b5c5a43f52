//! Directions in z, and moves along them: principal components, and the directions that a linear
//! classifier uses.

use crate::eval::features::Features;
use crate::eval::latent_statistics::LatentStats;
use crate::eval::linear::LinearProbe;

/// A direction in z.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// "PC 1", or the name of a class.
    pub name: String,
    /// The unit vector, `[Z]`; all zeros if there is no direction.
    pub unit: Vec<f64>,
    /// Standard deviation of the training z along the direction.
    pub deviation: f64,
    /// Variance along the direction as a share of the total variance over all dimensions.
    pub share: f64,
}

fn direction(name: String, along: impl Iterator<Item = f64>, stats: &LatentStats) -> Direction {
    let mut unit: Vec<f64> = along.collect();
    let length = unit.iter().map(|v| v * v).sum::<f64>().sqrt();
    unit.iter_mut().for_each(|v| *v = if length > 0.0 { *v / length } else { 0.0 });
    let (variance, total) = (stats.variance_along(&unit), stats.total_variance());
    Direction {
        name,
        unit,
        deviation: variance.sqrt(),
        share: if total > 0.0 { variance / total } else { 0.0 },
    }
}

/// Returns the first `count` principal directions of z, in order of decreasing variance.
///
/// # Panics
/// If z has fewer than `count` dimensions.
pub fn principal(stats: &LatentStats, count: usize) -> Vec<Direction> {
    (0..count)
        .map(|i| direction(format!("PC {}", i + 1), stats.direction(i).iter().copied(), stats))
        .collect()
}

/// Returns, for each of the classes `names`, the direction along which `probe` finds it more
/// likely; see [`LinearProbe::class_directions`].
pub fn of_classes(probe: &LinearProbe, names: &[String], stats: &LatentStats) -> Vec<Direction> {
    let along = probe.class_directions().into_iter().zip(names);
    along
        .map(|(along, name)| direction(name.clone(), along.into_iter().map(f64::from), stats))
        .collect()
}

/// Moves `z` `[Z]` along `direction` by each of `places` standard deviations: `[places, Z]`.
pub fn traverse(z: &[f32], direction: &Direction, places: &[f64]) -> Vec<f32> {
    let moved = |place: f64| {
        z.iter()
            .zip(&direction.unit)
            .map(move |(z, u)| z + (place * direction.deviation * u) as f32)
    };
    places.iter().flat_map(|&place| moved(place)).collect()
}

/// Returns the probability that `probe` assigns to `class` for each row of `z` `[N, Z]`.
pub fn probabilities(probe: &LinearProbe, z: &[f32], dim: usize, class: usize) -> Vec<f64> {
    let n = z.len() / dim;
    let logits = probe.logits(&Features { dim, values: z.to_vec(), labels: vec![0; n] });
    let share = |logits: &[f32]| {
        let exp = |l: f32| f64::from(l - logits[class]).exp();
        logits.iter().map(|&l| exp(l)).sum::<f64>().recip()
    };
    logits.chunks_exact(logits.len() / n.max(1)).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProbeConfig;
    use crate::eval::latent_statistics::statistics;
    use crate::eval::linear::ProbeShape;
    use crate::rng::{self, Purpose};

    /// Labelled z of three classes in 6 dimensions: class c is shifted upwards in dimension c.
    fn labelled() -> Features {
        let mut values = rng::normal(&mut rng::stream(4, Purpose::Test, 0), 900 * 6);
        let labels: Vec<u16> = (0..900).map(|i| (i % 3) as u16).collect();
        for (z, &label) in values.chunks_exact_mut(6).zip(&labels) {
            z[usize::from(label)] += 4.0;
            z[5] *= 5.0;
        }
        Features { dim: 6, values, labels }
    }

    #[test]
    fn principal_directions_have_the_largest_variance_and_traversals_step_in_deviations() {
        let stats = statistics(&labelled().values, 6).unwrap();
        let found = principal(&stats, 6);
        assert!(found.windows(2).all(|w| w[0].share >= w[1].share));
        assert!((found.iter().map(|d| d.share).sum::<f64>() - 1.0).abs() < 1e-9);
        // Dimension 5 has variance 25, out of 1 + 1 + 25 and three times 1 + 16 * 2 / 9.
        assert!(
            found[0].unit[5] > 0.99 && (found[0].deviation - 5.0).abs() < 0.5,
            "{:?}",
            found[0]
        );
        let strip = traverse(&[1.0; 6], &found[0], &[-3.0, 0.0, 3.0]);
        assert_eq!(strip[6..12], [1.0; 6]);
        let moved: f64 =
            (0..6).map(|i| f64::from(strip[12 + i] - strip[i]) * found[0].unit[i]).sum();
        assert!((moved - 6.0 * found[0].deviation).abs() < 1e-4);
    }

    #[test]
    fn a_step_along_a_class_makes_it_more_likely_and_one_back_less_likely() {
        let z = labelled();
        let stats = statistics(&z.values, 6).unwrap();
        let shape = ProbeShape { classes: 3, normalise: true };
        let mut probe = LinearProbe::new(
            6,
            900,
            shape,
            &ProbeConfig { epochs: 5, batch_size: 30, lr: 0.01 },
            0,
        )
        .unwrap();
        (0..5).for_each(|_| probe.train_epoch(&z).unwrap());
        let mean: Vec<f32> = stats.mean.iter().map(|&v| v as f32).collect();
        for (class, along) in
            of_classes(&probe, &["a", "b", "c"].map(str::to_owned), &stats).iter().enumerate()
        {
            assert!((along.unit.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-9);
            let strip = traverse(&mean, along, &[-3.0, -1.0, 0.0, 1.0, 3.0]);
            let p = probabilities(&probe, &strip, 6, class);
            assert!(p.is_sorted_by(|a, b| a < b) && p[4] > 0.8 && p[0] < 0.2, "{p:?}");
            // Negative control: another class becomes less likely along the same traversal.
            let other = probabilities(&probe, &strip, 6, (class + 1) % 3);
            assert!(other[4] < other[2], "{other:?}");
        }
    }

    #[test]
    fn directions_of_constant_z_change_nothing() {
        let stats = statistics(&[2.0; 30], 3).unwrap();
        for along in principal(&stats, 3) {
            assert_eq!((along.deviation, along.share), (0.0, 0.0));
            assert_eq!(traverse(&[2.0; 3], &along, &[-3.0, 3.0]), [2.0; 6]);
        }
    }
}
