#!/usr/bin/env bash
# Tabulates what four GPU compilers make of the shaders that the recipes launch, in
# OUT/gpu_shaders.json and OUT/gpu_shaders.md: gpu_table.sh OUT [DIR]
# DIR holds the shaders as `soda shaders DIR` writes them; without it they are written first. Run
# tools/gpu/setup.sh amd intel nvidia nak beforehand.
set -euo pipefail
[ $# = 1 ] || [ $# = 2 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(realpath -- "$1") dir=${2:+$(realpath -- "$2")}
cd "$(dirname "$0")/.."
if [ -z "$dir" ]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    cargo run --release --locked --quiet -- shaders "$dir"
fi
SODA_TRAFFIC="$out/bytes.json" \
    cargo test --release --locked --quiet --test kernels traffic >/dev/null
cargo build --release --locked --quiet --manifest-path tools/shaders/Cargo.toml \
    --target-dir tools/shaders/target
exec node tools/gpu/table.mjs "$dir" --mesa --on navi21,dg2,sm_86,ga102 --bytes "$out/bytes.json" \
    --json "$out/gpu_shaders.json" --markdown "$out/gpu_shaders.md"
