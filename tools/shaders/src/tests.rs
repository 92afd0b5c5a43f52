//! Valid folders pass, and each kind of error is reported in a line of its own.

use crate::check::{self, Report};
use crate::manifest::{Binding, Extension, Folder, Manifest, Shader};
use crate::translate::Target;
use Extension::{CooperativeMatrix, F16, Subgroups};
use std::collections::BTreeMap;

/// Sums pairs, with an early return, a barrier in uniform control flow, 1 KiB of workgroup memory
/// and an info block.
const PLAIN: &str = "
struct Info { n: u32, rows: u32, pad0: u32, pad1: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> info: Info;
var<workgroup> tile: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    if group.x >= info.rows { return; }
    tile[i] = x[min(group.x * 256u + i, info.n - 1u)];
    workgroupBarrier();
    if i < 128u && i < arrayLength(&y) { y[i] = tile[2u * i] + tile[2u * i + 1u]; }
}
";

const HALF: &str = "enable f16;
@group(0) @binding(0) var<storage, read_write> x: array<f16>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32) { x[i] = x[i] + 1.0h; }
";

const GROUPED: &str = "
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32) \
{ x[i] = subgroupAdd(x[i]) + subgroupShuffleXor(x[i], 1u); }
";

const MATRICES: &str = "enable f16;
enable wgpu_cooperative_matrix;
@group(0) @binding(0) var<storage, read_write> a: array<f16>;
@group(0) @binding(1) var<storage, read_write> b: array<f16>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(32)
fn main() {
    let sum = coopLoadT<coop_mat16x16<f32, C>>(&c[0], 16u);
    let left = coopLoadT<coop_mat16x16<f16, A>>(&a[0], 16u);
    let right = coopLoadT<coop_mat16x16<f16, B>>(&b[0], 16u);
    coopStoreT(coopMultiplyAdd(left, right, sum), &c[0], 16u);
}
";

/// Returns the manifest's entry for `file`, with `storage` storage buffers and perhaps a uniform.
fn entry(file: &str, size: u32, storage: usize, uniform: bool, extensions: &[Extension]) -> Shader {
    let uniform = if uniform { &[Binding::Uniform][..] } else { &[] };
    Shader {
        file: file.to_owned(),
        operation: "pairs".to_owned(),
        kernel: "pairs forward".to_owned(),
        variant: format!("Forward({file})"),
        extensions: extensions.iter().copied().collect(),
        workgroup_size: [size, 1, 1],
        bindings: [&vec![Binding::Storage; storage], uniform].concat(),
        workgroup_bytes: None,
        multiply_adds: vec![],
        recipes: vec![],
    }
}

/// Returns a valid folder with one kernel in four variants.
fn good() -> Folder {
    let plain = Shader { workgroup_bytes: Some(1024), ..entry("plain.wgsl", 256, 2, true, &[]) };
    let half = entry("half.wgsl", 64, 1, false, &[F16]);
    let grouped = entry("grouped.wgsl", 64, 1, false, &[Subgroups]);
    let matrices = entry("matrices.wgsl", 32, 3, false, &[F16, CooperativeMatrix]);
    let texts = [
        ("plain.wgsl", PLAIN),
        ("half.wgsl", HALF),
        ("grouped.wgsl", GROUPED),
        ("matrices.wgsl", MATRICES),
    ];
    let texts: BTreeMap<_, _> =
        texts.into_iter().map(|(file, text)| (file.to_owned(), text.to_owned())).collect();
    Folder { manifest: Manifest { shaders: vec![plain, half, grouped, matrices] }, texts }
}

/// Checks the valid folder after a change.
fn changed(change: impl FnOnce(&mut Folder)) -> Report {
    let mut folder = good();
    change(&mut folder);
    check::folder(&folder)
}

/// Asserts that the change causes exactly one failure, one line that contains `reason`.
#[track_caller]
fn refused(reason: &str, change: impl FnOnce(&mut Folder)) {
    let failures = changed(change).failures;
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert!(
        failures[0].contains(reason) && !failures[0].contains('\n'),
        "{failures:#?} instead of {reason}"
    );
}

/// Like [`refused`], for a change in the source of `file`.
#[track_caller]
fn text_refused(reason: &str, file: &str, from: &str, to: &str) {
    refused(reason, |folder| {
        let text = folder.texts.get_mut(file).unwrap();
        assert!(text.contains(from), "{from} isn't in {file}");
        *text = text.replace(from, to);
    });
}

#[test]
fn a_good_folder_passes_in_every_language() {
    let report = changed(|_| {});
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert_eq!(
        report.to_string(),
        "4 shaders of 1 operations: 4 valid, 4 in SPIR-V, 4 in MSL, 3 in HLSL; 0 failures"
    );
    assert_eq!(report.unwritable, [((Target::Hlsl, CooperativeMatrix), 1)].into());

    let text = |file: &str, target| {
        let translation =
            report.translations.iter().find(|t| t.file == file && t.target == target).unwrap();
        String::from_utf8_lossy(&translation.text).into_owned()
    };
    assert!(text("plain.wgsl", Target::SpirV).as_bytes().starts_with(&[0x03, 0x02, 0x23, 0x07]));
    assert!(text("plain.wgsl", Target::Msl).contains("[[buffer(2)]]"));
    assert!(
        text("plain.wgsl", Target::Hlsl).contains("register(b2)")
            && text("half.wgsl", Target::Hlsl).contains("half")
    );
    assert!(text("matrices.wgsl", Target::Msl).contains("simdgroup"));
}

#[test]
fn what_a_language_lacks_agrees_with_naga() {
    for extension in [F16, Subgroups, CooperativeMatrix] {
        for target in Target::ALL {
            let supported = match target {
                Target::SpirV => naga::back::spv::supported_capabilities(),
                Target::Msl => naga::back::msl::supported_capabilities(),
                Target::Hlsl => naga::back::hlsl::supported_capabilities(),
            };
            assert_eq!(
                target.writes(extension),
                supported.contains(extension.capabilities()),
                "{extension} in {target}"
            );
        }
    }
}

#[test]
fn broken_shaders_are_refused_where_they_break() {
    text_refused("plain.wgsl: line 11, column 13", "plain.wgsl", "tile[i] = x[", "tile[i] == x[");
    text_refused("no definition in scope for identifier", "plain.wgsl", "info.rows", "inof.rows");
    text_refused(
        "pairs forward, Forward(plain.wgsl), plain.wgsl: line 12",
        "plain.wgsl",
        "workgroupBarrier();",
        "let n: f32 = 0u;",
    );
    text_refused(
        "Entry point main at Compute is invalid",
        "grouped.wgsl",
        "workgroup_size(64)",
        "workgroup_size(0)",
    );
    text_refused(
        "one entry point, a compute shader",
        "half.wgsl",
        "@compute",
        "@compute @workgroup_size(1) fn other() {}\n@compute",
    );
    text_refused(
        "a value of the template was left out",
        "plain.wgsl",
        "fn main",
        "// {{ name }}\nfn main",
    );
    // Arrays in uniform buffers need strides of 16 bytes.
    text_refused(
        "array stride 4 is not a multiple of the required alignment 16",
        "plain.wgsl",
        "pad0: u32, pad1: u32",
        "rates: array<f32, 4>",
    );
}

#[test]
fn shaders_use_exactly_the_extensions_that_they_name() {
    let extensions = |file: &'static str, extensions: &'static [Extension]| {
        move |folder: &mut Folder| {
            let shader = folder.manifest.shaders.iter_mut().find(|s| s.file == file).unwrap();
            shader.extensions = extensions.iter().copied().collect();
        }
    };
    refused("`f16` extension is not supported", extensions("half.wgsl", &[]));
    refused("Capabilities", extensions("grouped.wgsl", &[]));
    refused(
        "`wgpu_cooperative_matrix` extension is not supported",
        extensions("matrices.wgsl", &[F16]),
    );
    refused("names subgroups and doesn't use it", extensions("half.wgsl", &[F16, Subgroups]));
    refused("names f16 and doesn't use it", extensions("grouped.wgsl", &[F16, Subgroups]));
    text_refused("the `f16` enable extension is not enabled", "half.wgsl", "enable f16;", "");
    // naga doesn't support this line yet; code that passes a shader to Tint adds it.
    text_refused(
        "`subgroups` enable-extension is not yet supported",
        "grouped.wgsl",
        "\n@group",
        "enable subgroups;\n@group",
    );
    // HLSL and WebGPU have no subgroup barrier.
    text_refused(
        "SUBGROUP_BARRIER",
        "grouped.wgsl",
        "{ x[i] = subgroupAdd",
        "{ subgroupBarrier(); x[i] = subgroupAdd",
    );
}

#[test]
fn the_manifest_must_describe_each_shader_correctly() {
    refused("a workgroup of [256, 1, 1], [128, 1, 1] in the manifest", |f| {
        f.manifest.shaders[0].workgroup_size[0] = 128
    });
    refused("1024 bytes of workgroup memory, 512 in the manifest", |f| {
        f.manifest.shaders[0].workgroup_bytes = Some(512)
    });
    refused("binds 2 storage, 1 uniform, in the manifest 3 storage", |f| {
        f.manifest.shaders[0].bindings[2] = Binding::Storage
    });
    refused("binds 1 storage, in the manifest nothing", |f| f.manifest.shaders[1].bindings.clear());
    text_refused("from binding 0 without gaps", "half.wgsl", "@binding(0)", "@binding(1)");
    text_refused("from binding 0 without gaps", "half.wgsl", "@group(0)", "@group(1)");
    refused("binds no storage buffer", |folder| {
        let text = folder.texts.get_mut("plain.wgsl").unwrap();
        *text = "@compute @workgroup_size(1) fn main() {}".to_owned();
        folder.manifest.shaders[0] = entry("plain.wgsl", 1, 0, false, &[]);
    });
    refused("binds 1 uniform, 2 storage: only the last may be a uniform", |folder| {
        let text = folder.texts.get_mut("plain.wgsl").unwrap();
        *text = text
            .replace("@binding(2)", "@binding(3)")
            .replace("@binding(0)", "@binding(2)")
            .replace("@binding(3)", "@binding(0)");
        folder.manifest.shaders[0].bindings.rotate_right(1);
    });
}

#[test]
fn webgpus_default_limits_are_kept() {
    refused("9 storage buffers, 8 at most", |folder| {
        let more = (2..9).map(|i| {
            format!("@group(0) @binding({i}) var<storage, read_write> b{i}: array<f32>;\n")
        });
        let text = folder.texts.get_mut("plain.wgsl").unwrap();
        *text = more.collect::<String>() + &text.replace("@binding(2)", "@binding(9)");
        folder.manifest.shaders[0].bindings =
            [vec![Binding::Storage; 9], vec![Binding::Uniform]].concat();
    });
    refused("16400 bytes of workgroup memory, 16384 at most", |folder| {
        let text = folder.texts.get_mut("plain.wgsl").unwrap();
        *text = text.replace("array<f32, 256>", "array<f32, 4097>");
        folder.manifest.shaders[0].workgroup_bytes = None;
    });
    text_refused(
        "65552 bytes of the uniform buffer at binding 2, 65536 at most",
        "plain.wgsl",
        "pad1: u32",
        "pad1: u32, a: array<vec4<u32>, 4096>",
    );
    for (size, reason) in [
        ([16, 32, 1], "512 invocations"),
        ([1, 1, 128], "a workgroup of [1, 1, 128], [256, 256, 64] at most"),
    ] {
        refused(reason, |folder| {
            let text = folder.texts.get_mut("plain.wgsl").unwrap();
            *text = text.replace(
                "workgroup_size(256)",
                &format!("workgroup_size({}, {}, {})", size[0], size[1], size[2]),
            );
            folder.manifest.shaders[0].workgroup_size = size;
        });
    }
    // Unused memory isn't counted, and shaders that aren't WebGPU have their adapter's limits.
    let unused = |f: &mut Folder| {
        f.texts.get_mut("plain.wgsl").unwrap().push_str("var<workgroup> spare: array<f32, 8192>;")
    };
    assert!(changed(unused).failures.is_empty());
    let large = |folder: &mut Folder| {
        let text = folder.texts.get_mut("matrices.wgsl").unwrap();
        *text = text.replace("workgroup_size(32)", "workgroup_size(512)");
        folder.manifest.shaders[3].workgroup_size[0] = 512;
    };
    assert!(changed(large).failures.is_empty());
}

#[test]
fn manifest_and_files_name_each_other() {
    refused("spare.wgsl: manifest.json doesn't name it", |f| {
        drop(f.texts.insert("spare.wgsl".to_owned(), PLAIN.to_owned()))
    });
    refused("half.wgsl: no such file in the folder", |f| drop(f.texts.remove("half.wgsl")));
    refused("pairs forward, Forward(plain.wgsl), plain.wgsl has the same file", |f| {
        f.manifest.shaders.push(f.manifest.shaders[0].clone())
    });
    refused("pairs forward, Forward(plain.wgsl), plain.wgsl has the same source", |folder| {
        folder.manifest.shaders.push(entry("again.wgsl", 256, 2, true, &[]));
        folder.texts.insert("again.wgsl".to_owned(), PLAIN.to_owned());
    });
    refused("halves: every variant needs an extension", |f| {
        f.manifest.shaders[1].operation = "halves".to_owned()
    });
    let empty = Folder { manifest: Manifest { shaders: vec![] }, texts: BTreeMap::new() };
    assert_eq!(check::folder(&empty).failures, ["manifest.json: names no shader"]);
}
