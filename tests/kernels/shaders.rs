//! Every shader, at the sizes it is launched with: valid WGSL, translatable for every graphics API, within WebGPU's limits.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, back, front, proc};
use soda::kernels::ada_gn::wgsl::{Shader, Tile};
use soda::kernels::attention::wgsl as attention;
use soda::kernels::columns::Columns;
use soda::kernels::launch::Class;
use soda::kernels::{adamw, batch_norm, conv2d, feature_map, peak};

/// Name and complete text of each.
fn all() -> Vec<(String, String)> {
    let classes = [Class::Gpu, Class::Software];
    // Channels, channels of a group, pixels: the networks' and odd ones.
    let sizes =
        [(32, 1, 1024), (64, 2, 256), (128, 4, 1024), (384, 12, 64), (512, 16, 16), (15, 3, 9), (520, 520, 4), (17, 1, 35)];
    let ada_gn = classes.into_iter().flat_map(|class| {
        sizes.into_iter().flat_map(move |(channels, group_size, pixels)| {
            let [forward, backward] = Tile::choose(class, channels, group_size, pixels);
            [Shader::Forward(forward), Shader::Backward(backward), Shader::parameters(class, channels)]
        })
    });
    let peaks = [peak::Shader::Copy, peak::Shader::MultiplyAdd];
    let ada_gn = ada_gn.map(|s| (format!("ada_gn {s:?}"), s.wgsl()));
    let conv2d = conv2d::wgsl::Shader::all().into_iter().map(|s| (format!("conv2d {s:?}"), s.wgsl()));
    let others = classes.into_iter().flat_map(by_class);
    let attention = attention_shaders().into_iter().map(|s| (format!("attention {s:?}"), s.wgsl()));
    let peaks = peaks.into_iter().map(|s| (format!("{s:?}"), s.wgsl()));
    ada_gn.chain(conv2d).chain(attention).chain(peaks).chain(others).collect()
}

/// Those whose tiles the class of the adapter chooses, in values of one and of four numbers.
fn by_class(class: Class) -> Vec<(String, String)> {
    let adamw = [false, true].into_iter().flat_map(|vec4| {
        [adamw::wgsl::Shader::Update { vec4 }, adamw::wgsl::Shader::Squares { class, vec4 }, adamw::wgsl::Shader::Norm(class)]
    });
    let mut all: Vec<_> = adamw.map(|s| (format!("adamw {s:?}"), s.wgsl())).collect();
    // One channel; fewer than invocations, not a power of two; the networks' own; more than invocations.
    for channels in [1, 17, 64, 512, 1_001, 2_048] {
        let columns = Columns::new(class, &[channels]);
        use batch_norm::wgsl::Shader as Norm;
        let norms = [Norm::Moments, Norm::Apply, Norm::Sums, Norm::Backward].map(|shader| shader(columns));
        let norms = norms.into_iter().chain([Norm::Statistics(class), Norm::Totals(class), Norm::Running]);
        all.extend(norms.map(|s| (format!("batch_norm {s:?}"), s.wgsl())));
        let maps = [false, true].map(|split| feature_map::wgsl::Shader { columns, split });
        all.extend(maps.map(|s| (format!("feature_map {s:?}"), s.wgsl())));
    }
    all
}

/// Attention of few and many channels over small and large images, on both classes of adapters.
fn attention_shaders() -> Vec<attention::Shader> {
    let mut shaders = Vec::new();
    for class in [Class::Gpu, Class::Software] {
        for (channels, pixels) in [(4, 1), (64, 256), (64, 16), (128, 256), (256, 256), (256, 16), (512, 64)] {
            let tile = attention::Tile::new(class, channels, pixels);
            shaders.extend([attention::Shader::Forward(tile), attention::Shader::Queries(tile), attention::Shader::Keys(tile)]);
        }
    }
    shaders
}

fn validated(text: &str) -> Result<(Module, naga::valid::ModuleInfo), String> {
    let module = front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    // No capability beyond WebGPU's own.
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
    let info = info.map_err(|e| e.emit_to_string(text))?;
    Ok((module, info))
}

#[test]
fn shaders_validate_and_translate_to_spirv_msl_and_hlsl() {
    for (shader, text) in all() {
        let (module, info) = validated(&text).unwrap_or_else(|e| panic!("{shader}: {e}"));

        let spirv = back::spv::write_vec(&module, &info, &back::spv::Options::default(), None);
        assert!(!spirv.unwrap_or_else(|e| panic!("{shader} to SPIR-V: {e}")).is_empty());

        let pipeline = back::msl::PipelineOptions::default();
        let msl = back::msl::write_string(
            &module,
            &info,
            &back::msl::Options { fake_missing_bindings: true, ..Default::default() },
            &pipeline,
        );
        assert!(msl.unwrap_or_else(|e| panic!("{shader} to MSL: {e}")).0.contains("kernel void"));

        let mut hlsl = String::new();
        let options = back::hlsl::Options { fake_missing_bindings: true, ..Default::default() };
        let pipeline = back::hlsl::PipelineOptions::default();
        let mut writer = back::hlsl::Writer::new(&mut hlsl, &options, &pipeline);
        writer.write(&module, &info, None).unwrap_or_else(|e| panic!("{shader} to HLSL: {e}"));
        assert!(hlsl.contains("numthreads"));
    }
}

#[test]
fn shaders_stay_within_webgpus_default_limits() {
    for (shader, text) in all() {
        let (module, _) = validated(&text).unwrap_or_else(|e| panic!("{shader}: {e}"));
        let mut layouter = proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("sizes of all types");
        let in_space = |wanted: fn(AddressSpace) -> bool| {
            module.global_variables.iter().filter(move |(_, v)| wanted(v.space)).map(|(_, v)| v).collect::<Vec<_>>()
        };
        let buffers = in_space(|s| matches!(s, AddressSpace::Storage { .. }));
        assert!((1..=8).contains(&buffers.len()), "{shader} binds {} storage buffers", buffers.len());
        let memory: u32 = in_space(|s| s == AddressSpace::WorkGroup).iter().map(|v| layouter[v.ty].size).sum();
        assert!(memory <= 16 * 1024, "{shader} takes {memory} bytes of workgroup memory");
        let invocations: u32 = module.entry_points[0].workgroup_size.iter().product();
        assert!(invocations <= 256, "{shader} runs {invocations} invocations");
    }
}

#[test]
fn validation_rejects_a_broken_shader() {
    let [tile, _] = Tile::choose(Class::Gpu, 128, 4, 1024);
    let good = Shader::Forward(tile).wgsl();
    assert!(!good.contains("{{"), "a template value was left out");
    assert!(validated(&good.replace("var sum = T(0.0);", "var sum = 0u;")).is_err());
    assert!(validated(&good.replace("inverseSqrt", "inverse_sqrt")).is_err());
}
