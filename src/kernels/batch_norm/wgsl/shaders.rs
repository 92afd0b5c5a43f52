//! The seven shaders of batch normalisation: their template values and info blocks.

use crate::device::Class;
use crate::kernels::columns::Columns;
use crate::kernels::shader::{Filled, Shader, Types, info};
use minijinja::{Value, context};

info! {
    /// The info block of the shader of moments.
    struct MomentsInfo {
        width: u32,
        pixels: u32,
        size: u32,
        count: u32,
    }

    /// The info block of the shader of statistics.
    struct StatisticsInfo {
        channels: u32,
        pixels: u32,
        size: u32,
        count: u32,
    }

    /// The info block of the shader that applies the statistics.
    struct ApplyInfo {
        width: u32,
        pixels: u32,
        size: u32,
        count: u32,
        flags: u32,
        eps: f32,
    }

    /// The info block of the shader of running statistics.
    struct RunningInfo {
        channels: u32,
        second: u32,
        momentum: f32,
        unbiased: f32,
    }

    /// The info block of the shader of sums.
    struct SumsInfo {
        width: u32,
        pixels: u32,
        size: u32,
        count: u32,
        mask: u32,
        eps: f32,
    }

    /// The info block of the shader of totals.
    struct TotalsInfo {
        channels: u32,
        count: u32,
        second: u32,
    }

    /// The info block of the shader of the input's gradient.
    struct BackwardInfo {
        width: u32,
        pixels: u32,
        size: u32,
        count: u32,
        mask: u32,
        eps: f32,
        second: u32,
    }
}

/// The shader shaders/batch_norm_moments.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Moments(pub Columns, pub Types);

impl Shader for Moments {
    type Info = MomentsInfo;
    const FILE: &'static str = "batch_norm_moments";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_moments.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        self.0.wg
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }
}

/// Channels per workgroup of the shaders that combine blocks.
pub(super) const TOGETHER: usize = 8;

/// Returns the invocations of such a workgroup.
fn together(class: Class) -> u32 {
    match class {
        Class::Gpu => 256,
        Class::Software => 32,
    }
}

/// The shader shaders/batch_norm_statistics.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Statistics {
    wg: u32,
}

impl Shader for Statistics {
    type Info = StatisticsInfo;
    const FILE: &'static str = "batch_norm_statistics";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_statistics.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        self.wg
    }

    fn values(&self) -> Value {
        context! { cols => TOGETHER }
    }
}

impl Statistics {
    pub fn new(class: Class) -> Self {
        Self { wg: together(class) }
    }
}

/// The shader shaders/batch_norm_apply.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Apply(pub Columns, pub Types);

impl Shader for Apply {
    type Info = ApplyInfo;
    const FILE: &'static str = "batch_norm_apply";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_apply.wgsl");
    const BUFFERS: usize = 6;

    fn workgroup(&self) -> u32 {
        self.0.wg
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }
}

/// The shader shaders/batch_norm_running.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Running;

impl Shader for Running {
    type Info = RunningInfo;
    const FILE: &'static str = "batch_norm_running";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_running.wgsl");
    const BUFFERS: usize = 4;

    fn workgroup(&self) -> u32 {
        64
    }

    fn values(&self) -> Value {
        context! {}
    }
}

/// The shader shaders/batch_norm_sums.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sums {
    pub columns: Columns,
    /// Whether the result tells where the ReLU passes the gradient, and the masked gradient is
    /// written.
    pub by_result: bool,
    pub types: Types,
}

impl Shader for Sums {
    type Info = SumsInfo;
    const FILE: &'static str = "batch_norm_sums";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_sums.wgsl");
    const BUFFERS: usize = 6;

    fn workgroup(&self) -> u32 {
        self.columns.wg
    }

    fn values(&self) -> Value {
        context! { by_result => self.by_result, ..self.columns.context() }
    }

    fn types(&self) -> Types {
        self.types
    }
}

/// The shader shaders/batch_norm_totals.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Totals {
    wg: u32,
}

impl Shader for Totals {
    type Info = TotalsInfo;
    const FILE: &'static str = "batch_norm_totals";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_totals.wgsl");
    const BUFFERS: usize = 2;

    fn workgroup(&self) -> u32 {
        self.wg
    }

    fn values(&self) -> Value {
        context! { cols => TOGETHER }
    }
}

impl Totals {
    pub fn new(class: Class) -> Self {
        Self { wg: together(class) }
    }
}

/// The shader shaders/batch_norm_backward.wgsl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Backward(pub Columns, pub Types);

impl Shader for Backward {
    type Info = BackwardInfo;
    const FILE: &'static str = "batch_norm_backward";
    const TEXT: &'static str = include_str!("../../../../shaders/batch_norm_backward.wgsl");
    const BUFFERS: usize = 7;

    fn workgroup(&self) -> u32 {
        self.0.wg
    }

    fn values(&self) -> Value {
        self.0.context()
    }

    fn types(&self) -> Types {
        self.1
    }
}

/// Returns every variant for feature maps of `channels` channels.
pub(in super::super) fn shaders(channels: &[usize]) -> Vec<Filled> {
    let classes = [Class::Gpu, Class::Software].into_iter();
    let all = classes.flat_map(|class| {
        channels.iter().flat_map(move |channels| Types::ALL.map(|types| (class, *channels, types)))
    });
    all.flat_map(|(class, channels, types)| of_channels(class, channels, types)).collect()
}

/// Returns the GPU variants for f32 feature maps.
pub(in super::super) fn launched(channels: usize) -> Vec<Filled> {
    of_channels(Class::Gpu, channels, Types::F32)
}

fn of_channels(class: Class, channels: usize, types: Types) -> Vec<Filled> {
    let columns = Columns::new(class, &[channels]);
    vec![
        Filled::new(Running),
        Filled::new(Statistics::new(class)),
        Filled::new(Totals::new(class)),
        Filled::new(Moments(columns, types)),
        Filled::new(Apply(columns, types)),
        Filled::new(Backward(columns, types)),
        Filled::new(Sums { columns, by_result: false, types }),
        Filled::new(Sums { columns, by_result: true, types }),
    ]
}
