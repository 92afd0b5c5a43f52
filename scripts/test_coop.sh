#!/usr/bin/env bash
# Runs the tests of the convolutions on cooperative matrices. They need an adapter that supports
# cooperative matrices with f16 factors and f32 accumulation, and fail without one. Mesa's software
# driver lists 8x8x8 since version 26. LAVAPIPE is the root of a Debian that has it, by default the
# one that `tools/gpu/setup.sh nak` makes; the tests run in there, as root. LAVAPIPE= (empty): on
# this machine's own first adapter, a card. Arguments go to the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "error: $1" >&2
    exit 1
}

root=${LAVAPIPE-tools/gpu/compilers/sid}
icd=/usr/share/vulkan/icd.d/lvp_icd.json
if [ -n "$root" ]; then
    [ -f "$root$icd" ] || fail "there is no $root$icd: run tools/gpu/setup.sh nak, or set LAVAPIPE"
    [ "$(id -u)" = 0 ] || fail "the tests run in $root, which requires root"
fi

built=$(cargo test --release --locked --test kernels --no-run 2>&1) ||
    fail "the tests don't build: $built"
program=$(sed -nE 's/.*Executable .*\((.*)\).*/\1/p' <<<"$built")
[ -x "$program" ] || fail "cargo names no program: $built"

tests=(--ignored --test-threads 1 half::cooperative "$@")
log=$(mktemp)
if [ -n "$root" ]; then
    inside=$(mktemp -d "$root/w/coop-XXXXXX")
    trap 'rm -rf "$log" "$inside"' EXIT
    cp "$program" "$inside/kernels"
    place=/w/$(basename "$inside")
    chroot "$root" /usr/bin/env HOME="$place" XDG_RUNTIME_DIR="$place" VK_DRIVER_FILES="$icd" \
        "$place/kernels" "${tests[@]}" 2>&1 | tee "$log"
else
    trap 'rm -f "$log"' EXIT
    "$program" "${tests[@]}" 2>&1 | tee "$log"
fi
grep -qE '^test result: ok\. [1-9]' "$log" || fail "no test of cooperative matrices ran"
