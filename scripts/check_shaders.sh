#!/usr/bin/env bash
# Checks every instantiated shader of the catalogue, or those in DIR, where `soda shaders DIR` wrote
# them:
#     check_shaders.sh [DIR]
# tools/shaders checks validity, translations, interface and limits with naga. tools/gpu compiles
# them with Dawn (Tint), Chrome's WGSL compiler, and with RADV, AMD's compiler, and requires no
# spills and no fewer multiply-adds than tools/gpu/baseline.json records (see tools/gpu/README.md).
# Needs Node 20 or newer with npm; nothing is skipped.
set -euo pipefail
[ $# -le 1 ] || { echo "usage: $0 [DIR]" >&2; exit 2; }
dir=${1:+$(realpath -- "$1")}
cd "$(dirname "$0")/.."
. scripts/stage.sh
. scripts/vulkan.sh

fail() {
    echo "error: $1" >&2
    exit 1
}

# Prints the version of naga in a lock file.
naga() { awk -F '"' '/^name = "naga"$/ { getline; print $2 }' "$1"; }

for program in node npm; do
    command -v "$program" >/dev/null ||
        fail "$program isn't installed: install Node 20 or newer, with npm"
done
[ "$(naga Cargo.lock)" = "$(naga tools/shaders/Cargo.lock)" ] ||
    fail "tools/shaders and soda use different versions of naga: in tools/shaders, run cargo update\
 naga --precise $(naga Cargo.lock)"

if [ -z "$dir" ]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    stage "shaders written" cargo run --release --locked --quiet -- shaders "$dir" ||
        fail "the shaders couldn't be written"
fi

# With its own target folder, whatever the caller's is.
tool() {
    local command=$1
    shift
    cargo "$command" --release --locked --quiet --manifest-path tools/shaders/Cargo.toml \
        --target-dir tools/shaders/target "$@"
}
failed=()
stage "tests of tools/shaders" tool test || failed+=("tests of tools/shaders")
stage "naga" tool run -- "$dir" || failed+=("naga")

# Installs the packages where they are missing or older than package-lock.json.
if [ ! tools/gpu/node_modules/.package-lock.json -nt tools/gpu/package-lock.json ]; then
    stage "packages of tools/gpu" \
        npm ci --prefix tools/gpu --ignore-scripts --no-audit --no-fund --silent ||
        fail "the packages of tools/gpu can't be installed: npm ci --prefix tools/gpu says why"
fi
stage "Dawn" node tools/gpu/dawn.mjs "$dir" || failed+=("Dawn")

if ! compgen -G "/usr/share/vulkan/icd.d/radeon_icd*.json" >/dev/null; then
    stage "Mesa" install_vulkan || fail "RADV couldn't be installed"
fi
stage "tests of tools/gpu" node --test tools/gpu/*.test.mjs || failed+=("tests of tools/gpu")
stage "RADV" node tools/gpu/table.mjs "$dir" --baseline tools/gpu/baseline.json || failed+=("RADV")

[ ${#failed[@]} = 0 ] || fail "failed: $(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
