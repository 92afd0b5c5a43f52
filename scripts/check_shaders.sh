#!/usr/bin/env bash
# Checks every filled shader of the catalogue, or those in DIR as `soda shaders DIR` writes them: check_shaders.sh [DIR]
# tools/shaders: validity, translations, interface and limits by naga. tools/gpu: Dawn (Tint), the WGSL compiler of Chrome.
# Needs Node 20 or newer with npm; nothing is skipped.
set -euo pipefail
[ $# -le 1 ] || { echo "usage: $0 [DIR]" >&2; exit 2; }
dir=${1:+$(realpath -- "$1")}
cd "$(dirname "$0")/.."

fail() {
    echo "error: $1" >&2
    exit 1
}

# Runs the rest of the arguments as the part of that name, and prints its minutes; returns its exit code.
part() {
    local name=$1 began=$SECONDS status=0
    shift
    "$@" || status=$?
    awk -v name="$name" -v s=$((SECONDS - began)) 'BEGIN { printf "%s: %.1f minutes\n", name, s / 60 }'
    return "$status"
}

# Version of naga in a lock file.
naga() { awk '/^name = "naga"$/ { getline; print $3 }' "$1"; }

for program in node npm; do
    command -v "$program" >/dev/null || fail "$program isn't installed: Dawn checks the shaders through it (install Node 20 or newer, with npm)"
done
[ "$(naga Cargo.lock)" = "$(naga tools/shaders/Cargo.lock)" ] ||
    fail "tools/shaders has another version of naga than soda (cargo update --manifest-path tools/shaders/Cargo.toml naga --precise $(naga Cargo.lock))"

if [ -z "$dir" ]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    part "shaders written" cargo run --release --locked --quiet -- shaders "$dir" || fail "the shaders couldn't be written"
fi

# A target folder of its own, whatever the caller's is.
tool() {
    local command=$1
    shift
    cargo "$command" --release --locked --quiet --manifest-path tools/shaders/Cargo.toml --target-dir tools/shaders/target "$@"
}
failed=()
part "tests of tools/shaders" tool test || failed+=("tests of tools/shaders")
part "naga" tool run -- "$dir" || failed+=("naga")

# What `npm ci` installed, unless package-lock.json is newer.
if [ ! tools/gpu/node_modules/.package-lock.json -nt tools/gpu/package-lock.json ]; then
    part "packages of tools/gpu" npm ci --prefix tools/gpu --ignore-scripts --no-audit --no-fund --silent ||
        fail "npm can't install the packages of tools/gpu/package-lock.json: Dawn checks the shaders through them (npm ci --prefix tools/gpu)"
fi
part "Dawn" node tools/gpu/dawn.mjs "$dir" || failed+=("Dawn")

[ ${#failed[@]} = 0 ] || fail "failed: $(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
