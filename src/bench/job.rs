//! The process of one job: it measures its group on its device and reports each row immediately.

use super::plan::Size;
use super::recipe::recipe;
use super::row::{Message, Place, Row, Skipped};
use crate::config::{self, Config};
use crate::device::Selected;
use crate::error::{Hint, Result};
use crate::kernels::precision::Precision;
use crate::kernels::profile;
use burn::tensor::Device;
use std::time::{Duration, Instant};

/// Receives a job's messages as they are sent.
pub type Send = Box<dyn FnMut(&Message) -> Result<()>>;

/// A running job.
pub struct Job {
    /// The device, without autodiff.
    pub(super) device: Device,
    pub(super) place: Place,
    /// Whether it is real graphics hardware.
    pub(super) gpu: bool,
    /// The precision of the networks; single kernels compute in f32.
    pub(super) precision: Precision,
    /// The largest storage binding, in bytes.
    pub(super) max_binding: Option<u64>,
    /// The recipe of [`Size::Recipe`], with its name.
    own: Option<(String, Config)>,
    /// Whether to profile one run of each operation.
    pub(super) profile: bool,
    /// The start of the process.
    pub(super) started: Instant,
    deadline: Instant,
    peak_device_mib: Option<f64>,
    send: Send,
}

impl Job {
    /// Returns a job on `device`, in a process that started at `started` and should end `seconds`
    /// later.
    pub fn new(
        device: &Selected,
        precision: Precision,
        started: Instant,
        seconds: f64,
        profile: bool,
        send: Send,
    ) -> Self {
        Self {
            device: device.device.clone(),
            place: Place::of(device),
            gpu: device.gpu,
            precision,
            max_binding: device.adapter.as_ref().map(|a| a.limits.max_storage_binding),
            own: None,
            profile,
            started,
            deadline: started
                + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1 << 30)),
            peak_device_mib: None,
            send,
        }
    }

    /// Returns the job with the recipe that [`Size::Recipe`] stands for; its rows have `name` as
    /// their variant.
    pub fn with_recipe(self, name: String, config: Config) -> Self {
        Self { own: Some((name, config)), ..self }
    }

    /// Returns the recipe of `size`, in the precision of the job.
    ///
    /// # Errors
    /// If the width is impossible.
    pub(super) fn recipe(&self, size: Size) -> Result<Config> {
        let mut config = match (size, &self.own) {
            (Size::Recipe, Some((_, config))) => config.clone(),
            _ => recipe(size)?,
        };
        if self.precision == Precision::F16 {
            config.train.precision = config::Precision::Mixed;
        }
        Ok(config)
    }

    /// Returns the name of the user's recipe, if `size` is its size.
    pub(super) fn recipe_name(&self, size: Size) -> Option<String> {
        self.own.as_ref().filter(|_| size == Size::Recipe).map(|(name, _)| name.clone())
    }

    /// Returns a row without measurements, of a network of `width` base channels on `batch` images.
    pub(super) fn network(&self, op: &str, width: usize, batch: usize) -> Row {
        let precision = match (self.precision, self.place.device.as_str()) {
            (Precision::F32, _) => "f32",
            (Precision::F16, "cpu") => "f16-emulated",
            (Precision::F16, _) => "f16",
        };
        Row {
            width: Some(width),
            batch: Some(batch),
            precision: precision.into(),
            ..Row::new(op, &self.place)
        }
    }

    /// Returns the seconds left.
    pub(super) fn left(&self) -> f64 {
        self.deadline.saturating_duration_since(Instant::now()).as_secs_f64()
    }

    /// Announces the rows to come.
    pub(super) fn planned(&mut self, names: Vec<String>) -> Result<()> {
        (self.send)(&Message::Planned(names))
    }

    pub(super) fn send(&mut self, message: &Message) -> Result<()> {
        (self.send)(message)
    }

    /// Sends `row`, with the peak memory so far.
    pub(super) fn row(&mut self, mut row: Row) -> Result<()> {
        row.peak_memory_mib = self.memory_mib();
        self.send(&Message::Row(Box::new(row)))
    }

    /// Returns the peak memory of the job so far: of the process on the CPU, else the largest
    /// amount that the device's allocator was seen to hold.
    pub(super) fn memory_mib(&mut self) -> Option<f64> {
        if self.place.device == "cpu" {
            return crate::machine::peak_resident_mib();
        }
        let now = profile::memory(&self.device).map(|bytes| bytes as f64 / (1 << 20) as f64);
        self.peak_device_mib = self.peak_device_mib.into_iter().chain(now).reduce(f64::max);
        self.peak_device_mib
    }

    /// Returns whether about `seconds` are left; otherwise reports that `name` is skipped.
    pub(super) fn fits(&mut self, name: &str, seconds: f64) -> Result<bool> {
        let left = self.left();
        if seconds <= left {
            return Ok(true);
        }
        let reason =
            format!("needs about {seconds:.0} s, {left:.0} s left: {}", Hint::Budget(None));
        let skipped = Skipped { device: self.place.device.clone(), op: name.into(), reason };
        self.send(&Message::Skipped(skipped))?;
        Ok(false)
    }
}

impl Place {
    /// Returns the place of rows measured on `device`.
    pub fn of(device: &Selected) -> Self {
        match &device.adapter {
            Some(adapter) => Self {
                device: adapter.selector(),
                backend: device.backend.into(),
                adapter: device.name.clone(),
                kind: adapter.kind.label().into(),
                driver: Some(adapter.driver.clone()).filter(|driver| !driver.is_empty()),
            },
            None => Self {
                device: "cpu".into(),
                backend: "flex".into(),
                adapter: device.name.clone(),
                kind: "cpu".into(),
                driver: None,
            },
        }
    }
}
