//! The check that a device has really done the work it reports as finished.
//!
//! Some drivers report failed work as finished: Metal does after a command buffer ran too long or
//! out of memory. Memory then keeps its old contents, which can be finite and plausible. Therefore
//! the last kernel of every step adds one to a counter on the device.

use crate::error::{Error, Result};
use burn::tensor::{Device, Int, Tensor};

/// The number of steps and checks so far, as counted by the device and as requested.
pub struct Tally {
    /// The device's count, `[1]`; `None` on the CPU backend, whose calls return when the work is
    /// done.
    counted: Option<Tensor<1, Int>>,
    asked: i32,
}

impl Tally {
    /// Starts at zero on `device` (without autodiff).
    pub fn new(device: &Device) -> Self {
        let counted = (*device != Device::flex()).then(|| Tensor::from_ints([0], device));
        Self { counted, asked: 0 }
    }

    /// Counts a step. Must be the last work that the step submits to the device.
    pub fn add(&mut self) {
        self.counted = self.counted.take().map(|count| count + 1);
        self.asked = self.asked.wrapping_add(1);
    }

    /// Adds one, so that a value read earlier isn't mistaken for the answer, and reads the count.
    /// If the check passes, everything read from the device before it had really been computed.
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

    /// Counts a step that the device leaves out.
    #[cfg(test)]
    pub(crate) fn leave_one_out(&mut self) {
        self.asked += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_the_device_left_out_is_detected() {
        let device = crate::device::select("wgpu")
            .expect("an adapter; scripts/test.sh installs a software one")
            .device;
        let mut tally = Tally::new(&device);
        for _ in 0..3 {
            tally.add();
            tally.check().expect("all was done");
        }
        tally.leave_one_out();
        let message = tally.check().expect_err("one is missing").to_string();
        assert!(
            message.contains("the count is 7, not 8") && message.contains("silently left out"),
            "{message}"
        );
        // The CPU backend isn't counted.
        let mut tally = Tally::new(&Device::flex());
        tally.leave_one_out();
        tally.check().expect("nothing is counted");
    }
}
