//! Every parser of bytes that come from elsewhere, and how its inputs are made.

use super::engine::{MEMORY, TIME, Target};
use super::layers::{self, in_frame};
use super::{parsers, seeds};

pub const TARGETS: [Target; 19] = [
    Target { run: parsers::cifar_10, seeds: seeds::cifar_10, share: 190_000, ..target("cifar10_batch") },
    Target { run: parsers::cifar_100, seeds: seeds::cifar_100, share: 6_000, ..target("cifar100_batch") },
    Target {
        run: parsers::official_archive,
        seeds: seeds::archives,
        share: 6_000,
        layers: &[layers::in_tar, layers::in_tar_header, layers::in_tar_header, layers::in_gzip],
        words: &[
            "../",
            "/",
            "package/",
            "cifar-10-batches-bin/",
            "data_batch_1.bin",
            "test_batch.png",
            "\\",
            "C:",
            "ustar\x0000",
        ],
        ..target("archive")
    },
    Target {
        run: parsers::archive_100,
        seeds: seeds::archives_100,
        share: 5_000,
        layers: &[layers::in_tar, layers::in_tar_header, layers::in_gzip],
        words: &["../", "/", "cifar-100-binary/", "train.bin", "test.bin"],
        ..target("archive_100")
    },
    Target {
        run: parsers::weights,
        seeds: seeds::weights,
        share: 20_000,
        layers: &[layers::in_safetensors_header, layers::in_recipe],
        words: SAFETENSORS,
        ..target("weights")
    },
    Target {
        run: parsers::pytorch,
        seeds: seeds::pytorch,
        share: 10_000,
        layers: &[layers::in_pickle, layers::in_pickle, layers::in_storages],
        words: PICKLE,
        ..target("pytorch")
    },
    Target {
        run: parsers::sheets,
        seeds: seeds::sheets,
        share: 3_000,
        layers: &[
            |input, change| in_frame(input, 0, layers::whole, change),
            |input, change| in_frame(input, 1, layers::in_png_chunks, change),
            |input, change| in_frame(input, 1, layers::in_png_header, change),
            |input, change| in_frame(input, 2, layers::in_png_pixels, change),
        ],
        words: &["\"images\":", "\"labels\":\"", "\"sha256\":", "\"indices\":[", "IDAT", "IHDR", "PLTE", "tRNS"],
        ..target("sheets")
    },
    Target {
        run: parsers::picture,
        seeds: seeds::pictures,
        share: 12_000,
        layers: &[layers::in_png_chunks, layers::in_png_header, layers::in_png_pixels],
        words: &["IDAT", "IHDR", "PLTE", "tRNS", "IEND", "eXIf", "acTL", "fcTL", "RIFF", "VP8L", "GIF89a", "BM", "!"],
        // What a photograph of 512 MiB takes, which is allowed: decoded, and its middle square.
        memory: MEMORY + (1536 << 20),
        ..target("picture")
    },
    Target { run: parsers::recipe, seeds: seeds::recipes, share: 50_000, words: RECIPE, ..target("recipe") },
    Target {
        run: parsers::npy,
        seeds: seeds::npy,
        share: 90_000,
        layers: &[
            |input, change| in_frame(input, 0, layers::in_npy_header, change),
            |input, change| in_frame(input, 0, layers::whole, change),
            |input, change| in_frame(input, 1, layers::in_npy_header, change),
        ],
        words: &[
            "'descr':",
            "'fortran_order':",
            "'shape':",
            "(",
            ")",
            ",",
            "True",
            "False",
            "'<f4'",
            "'>f8'",
            "'<f2'",
            "'|u1'",
            "'<i8'",
            "'<c16'",
            "'<M8[ns]'",
            "'|S5'",
            "[('a','<f4')]",
            "L",
            "\n",
        ],
        ..target("table_npy")
    },
    Target {
        run: parsers::table_safetensors,
        seeds: seeds::table_safetensors,
        share: 90_000,
        layers: &[layers::in_safetensors_header, layers::in_safetensors_header],
        words: SAFETENSORS,
        ..target("table_safetensors")
    },
    Target {
        run: parsers::prior,
        seeds: seeds::priors,
        share: 25_000,
        layers: &[layers::in_safetensors_header],
        words: SAFETENSORS,
        ..target("prior")
    },
    Target {
        run: parsers::metrics,
        seeds: seeds::metrics,
        share: 150_000,
        words: &[
            "{",
            "}",
            ":",
            ",",
            "\"step\"",
            "\"images\"",
            "\"loss\"",
            "\"knn\"",
            "\"linear\"",
            "\"n_train\"",
            "\"seconds\"",
            "\n",
        ],
        ..target("metrics")
    },
    Target {
        run: parsers::starts,
        seeds: seeds::starts,
        share: 90_000,
        words: &["{", "}", ":", ",", "\"time\"", "\"machine\"", "\"command\"", "\"from\"", "\"images\"", "[", "\n"],
        ..target("starts")
    },
    Target {
        run: parsers::state,
        seeds: seeds::states,
        share: 113_000,
        words: &[
            "{",
            "}",
            ":",
            ",",
            "\"step\"",
            "\"updates\"",
            "\"progress\"",
            "\"loss_first\"",
            "\"finished\"",
            "\"data_sha256\"",
        ],
        ..target("state")
    },
    Target {
        run: parsers::bench,
        seeds: seeds::benches,
        share: 90_000,
        words: &["{", "}", ":", ",", "\"command\"", "\"rows\"", "\"op\"", "\"device\"", "\"median_ms\"", "\"shape\"", "["],
        ..target("bench")
    },
    Target {
        run: parsers::complete,
        seeds: seeds::markers,
        share: 20_000,
        words: &["{", "}", ":", ",", "\"sha256\"", "\"ema.safetensors\"", "\"../state.json\""],
        ..target("complete")
    },
    Target {
        run: parsers::checkpoint,
        seeds: seeds::checkpoints,
        share: 10_000,
        layers: &[
            |input, change| in_frame(input, 0, layers::in_safetensors_header, change),
            |input, change| in_frame(input, 0, layers::whole, change),
            |input, change| in_frame(input, 1, layers::in_safetensors_header, change),
            |input, change| in_frame(input, 2, layers::in_safetensors_header, change),
            |input, change| in_frame(input, 2, layers::whole, change),
            |input, change| in_frame(input, 3, layers::whole, change),
        ],
        words: SAFETENSORS,
        ..target("checkpoint")
    },
    Target { run: parsers::overrides, seeds: seeds::overrides, share: 20_000, words: RECIPE, ..target("overrides") },
];

const fn target(name: &'static str) -> Target {
    Target { name, run: |_, _| Ok(String::new()), seeds: Vec::new, layers: &[], words: &[], share: 0, memory: MEMORY, time: TIME }
}

const SAFETENSORS: &[&str] = &[
    "{",
    "}",
    "\"__metadata__\":{",
    "\"dtype\":",
    "\"shape\":[",
    "\"data_offsets\":[",
    "\"F32\"",
    "\"F16\"",
    "\"F64\"",
    "\"BF16\"",
    "\"I64\"",
    "\"BOOL\"",
    "\"F4\"",
    "\"features\":",
    "\"labels\":",
    "\"config\":",
    ",",
    "]",
    "\u{0}\u{0}",
];
const PICKLE: &[&str] = &[
    "(",
    ")",
    "t",
    "]",
    "}",
    "u",
    "s",
    "a",
    "e",
    "R",
    "Q",
    "b",
    "q\u{1}",
    "h\u{1}",
    "N",
    "K\u{1}",
    "M\u{1}\u{1}",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n",
    "ccollections\nOrderedDict\n",
    "cposix\nsystem\n",
    "ctorch._utils\n_rebuild_parameter\n",
    "X\u{4}\0\0\0MODE",
    ".",
    "\u{7f}\u{7f}\u{7f}\u{7f}",
    "PK\u{1}\u{2}",
    "PK\u{6}\u{6}",
];
const RECIPE: &[&str] = &[
    "[model]",
    "[model.unet]",
    "[train]",
    "[sample]",
    "base = ",
    "blocks = ",
    "multipliers = [",
    "attention = [",
    "groups = ",
    "z_dim = ",
    "layer_modulation = true",
    "guidance = [0.1, 0.2]",
    "views = \"conditioned\"",
    "view_conditioning = true",
    "=",
    "\"\"\"",
    "'''",
    "[[",
    ".",
    "1979-05-27T07:32:00Z",
    "0x7fffffffffffffff",
    "\n",
];
