//! Whether a device does what it says it has done.
//!
//! Some drivers count work that failed as finished: Metal does after a command buffer ran too long
//! or out of memory. Memory then keeps what was there, which can be finite and plausible. So the
//! last kernel of every step adds one to a number on the device.

use crate::error::{Error, Result};
use burn::tensor::{Device, Int, Tensor};

/// Steps and checks so far, as the device has counted them and as they were asked for.
pub struct Tally {
    /// `[1]`; none on the CPU backend, whose work is done when it returns.
    counted: Option<Tensor<1, Int>>,
    asked: i32,
}

impl Tally {
    /// Nothing yet, on `device` (without autodiff).
    pub fn new(device: &Device) -> Self {
        let counted = (*device != Device::flex()).then(|| Tensor::from_ints([0], device));
        Self { counted, asked: 0 }
    }

    /// Counts a step, after all else that it hands to the device.
    pub fn add(&mut self) {
        self.counted = self.counted.take().map(|count| count + 1);
        self.asked = self.asked.wrapping_add(1);
    }

    /// Counts once more, so that what was read before is not taken for the answer, and reads the
    /// count. What was read from the device before a check that passes is what it had computed.
    ///
    /// # Errors
    /// If the device has left out work, or fails.
    pub fn check(&mut self) -> Result<()> {
        self.add();
        let Some(counted) = &self.counted else { return Ok(()) };
        let counted = counted
            .clone()
            .try_into_scalar::<i32>()
            .map_err(|e| Error::device("counting its steps", &e))?;
        if counted == self.asked {
            return Ok(());
        }
        let asked = self.asked;
        Err(Error::left_out(
            "counting its steps",
            format!("the count is {counted}, not {asked}: work was silently left out"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_the_device_left_out_is_found() {
        let device = crate::device::select("wgpu")
            .expect("an adapter; scripts/test.sh installs a software one")
            .device;
        let mut tally = Tally::new(&device);
        for _ in 0..3 {
            tally.add();
            tally.check().expect("all was done");
        }
        tally.asked += 1;
        let message = tally.check().expect_err("one is missing").to_string();
        assert!(
            message.contains("the count is 7, not 8") && message.contains("silently left out"),
            "{message}"
        );
        // The CPU backend takes no part.
        let mut tally = Tally::new(&Device::flex());
        tally.asked += 1;
        tally.check().expect("nothing is counted");
    }
}
