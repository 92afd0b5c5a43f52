//! The values that ranks exchange in a step besides gradients: losses, BatchNorm statistics and
//! requests to stop.

use super::Exchange;
use super::host::read;
use crate::error::Result;
use crate::kernels::batch_norm::Pending as Deferred;
use crate::ranks::gather;
use crate::train::optim::Gradients;
use burn::tensor::Tensor;
use std::time::Instant;

/// The values of one rank in a step besides its gradients.
struct News {
    interrupted: bool,
    loss: f32,
    /// By part and layer: the number of pixels, and mean and variance.
    statistics: Vec<(usize, Vec<f32>)>,
}

impl News {
    /// Decodes the `words` of a rank. `layers` determine how many values the statistics of each
    /// layer have.
    fn of(words: &[u32], layers: &[Deferred]) -> Self {
        let (head, mut rest) = words.split_at(2);
        let lengths = layers.iter().map(|layer| layer.statistics.dims()[0]).cycle();
        let mut statistics = Vec::new();
        for length in lengths {
            let Some((pixels, others)) = rest.split_first() else { break };
            let (values, others) = others.split_at(length);
            rest = others;
            statistics
                .push((*pixels as usize, values.iter().map(|x| f32::from_bits(*x)).collect()));
        }
        Self { interrupted: head[0] != 0, loss: f32::from_bits(head[1]), statistics }
    }
}

impl Exchange {
    /// Sums the losses, and updates the running statistics of rank 0 with those of all parts, as
    /// one process would. (The running statistics of the other ranks are never used.) Returns the
    /// loss, and whether any rank was interrupted.
    pub(super) fn news(
        &mut self,
        own: &Gradients,
        deferred: &[Deferred],
        interrupted: bool,
    ) -> Result<(Tensor<1>, bool)> {
        let all = std::iter::once(own.loss())
            .chain(deferred.iter().map(|deferred| deferred.statistics.clone().without_autodiff()));
        let values = read(Tensor::cat(all.collect(), 0), "computing a step")?;
        let mut words = vec![u32::from(interrupted)];
        let (loss, mut rest) = values.split_at(1);
        words.push(loss[0].to_bits());
        for deferred in deferred {
            let (statistics, others) = rest.split_at(deferred.statistics.dims()[0]);
            rest = others;
            words.push(deferred.pixels as u32);
            words.extend(statistics.iter().map(|x| x.to_bits()));
        }
        let layers = deferred.len() / self.cut.own.len();
        let one: usize =
            deferred[..layers].iter().map(|deferred| 1 + deferred.statistics.dims()[0]).sum();
        let counts: Vec<usize> = self.parts.iter().map(|parts| 4 * (2 + parts * one)).collect();
        let clock = Instant::now();
        let bytes: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
        let gathered = self.ranks.begin(move |link| gather(link, bytes, &counts)).wait()?;
        let all: Vec<Vec<u32>> =
            gathered.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
        self.spent.waited += clock.elapsed().as_secs_f64();
        let news: Vec<News> =
            all.iter().map(|words| News::of(words, &deferred[..layers])).collect();
        if self.ranks.rank() == 0 {
            for (layer, (pixels, statistics)) in
                news.iter().flat_map(|news| news.statistics.iter().enumerate())
            {
                deferred[layer % layers]
                    .take_in(Tensor::from_floats(statistics.as_slice(), &self.device), *pixels);
            }
        }
        let loss =
            news.iter().map(|news| news.loss).reduce(|sum, loss| sum + loss).expect("a rank");
        Ok((Tensor::from_floats([loss], &self.device), news.iter().any(|news| news.interrupted)))
    }
}
