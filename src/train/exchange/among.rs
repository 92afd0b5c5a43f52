//! How a batch is divided among the ranks.

use super::Wire;
use crate::error::{Error, Result};
use crate::ranks::Ranks;

/// How a run is divided among processes.
#[derive(Clone, Debug)]
pub struct Among {
    /// The processes.
    pub ranks: Ranks,
    /// Each rank's proportion of a batch; `None`: equal parts.
    pub shares: Option<Vec<usize>>,
    /// The format in which values are sent.
    pub wire: Wire,
    /// The command that resumes the run, for the message when a rank fails.
    pub resume: String,
}

impl Among {
    /// Returns the number of images of each rank in a batch of `batch`.
    ///
    /// # Errors
    /// If a rank gets no image, or the number of shares differs from that of ranks.
    pub fn sizes(&self, batch: usize) -> Result<Vec<usize>> {
        let size = self.ranks.size();
        let shares = self.shares.clone().unwrap_or_else(|| vec![1; size]);
        if shares.len() != size {
            return Err(Error::usage(format!(
                "there are {} shares of a batch for {size} ranks; give one to each rank",
                shares.len()
            )));
        }
        let sizes = split(batch, &shares);
        match sizes.contains(&0) {
            true => Err(Error::usage(format!(
                "train.batch_size = {batch} leaves one of {size} ranks without an image; use \
                fewer ranks or a larger batch"
            ))),
            false => Ok(sizes),
        }
    }
}

/// Divides `batch` images in proportion to `shares`. Images left over go to the largest remainders,
/// and among equal ones to the first.
fn split(batch: usize, shares: &[usize]) -> Vec<usize> {
    let total: usize = shares.iter().sum::<usize>().max(1);
    let mut sizes: Vec<usize> = shares.iter().map(|share| batch * share / total).collect();
    let mut left: Vec<usize> = (0..shares.len()).collect();
    left.sort_by_key(|rank| std::cmp::Reverse(batch * shares[*rank] % total));
    for rank in left.into_iter().take(batch - sizes.iter().sum::<usize>()) {
        sizes[rank] += 1;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_of_a_batch_goes_to_a_rank() {
        assert_eq!(split(32, &[1, 1]), [16, 16]);
        assert_eq!(split(32, &[1, 1, 1]), [11, 11, 10]);
        assert_eq!(split(32, &[2, 1]), [21, 11]);
        assert_eq!(split(5, &[1, 1, 1, 1]), [2, 1, 1, 1]);
        assert_eq!(split(3, &[1, 1, 1, 1]), [1, 1, 1, 0]);
        assert_eq!(split(10, &[0, 1]), [0, 10]);
    }
}
