//! Every shader, at the sizes it is launched with: valid WGSL, translatable for every graphics API, within WebGPU's limits.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, back, front, proc};
use soda::kernels::ada_gn::wgsl::{Shader, Tile};
use soda::kernels::attention::wgsl as attention;
use soda::kernels::launch::Class;
use soda::kernels::peak;

/// Name and complete text of each.
fn all() -> Vec<(String, String)> {
    let ada_gn = [
        Shader::Forward(Tile::PORTABLE_FORWARD),
        Shader::Forward(Tile::SOFTWARE_FORWARD),
        Shader::Backward(Tile::PORTABLE_BACKWARD),
        Shader::Backward(Tile::SOFTWARE_BACKWARD),
        Shader::Parameters,
    ];
    let peaks = [peak::Shader::Copy, peak::Shader::MultiplyAdd];
    let ada_gn = ada_gn.into_iter().map(|s| (format!("ada_gn {s:?}"), s.wgsl()));
    let attention = attention_shaders().into_iter().map(|s| (format!("attention {s:?}"), s.wgsl()));
    ada_gn.chain(peaks.into_iter().map(|s| (format!("{s:?}"), s.wgsl()))).chain(attention).collect()
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
    let good = Shader::Forward(Tile::PORTABLE_FORWARD).wgsl();
    assert!(!good.contains("{{"), "a template value was left out");
    assert!(validated(&good.replace("var sum = 0.0;", "var sum = 0u;")).is_err());
    assert!(validated(&good.replace("inverseSqrt", "inverse_sqrt")).is_err());
}
