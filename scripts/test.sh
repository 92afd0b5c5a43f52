#!/usr/bin/env bash
# Runs every test. The WGSL tests need a graphics adapter: if there is none, a software Vulkan
# driver is installed (Debian and Ubuntu); they are never skipped. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/stage.sh
. scripts/vulkan.sh

stage build cargo build --release --locked --tests --bins --examples
# Without it Mesa's window system code warns on every start.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"

adapters() { cargo run --release --locked --quiet -- devices; }
found=$(adapters)
if grep -q '^no adapter' <<<"$found"; then
    echo "no graphics adapter found: installing Mesa's software Vulkan driver"
    install_vulkan
    found=$(adapters)
    if grep -q '^no adapter' <<<"$found"; then
        echo "error: the software Vulkan driver is installed but not found" >&2
        exit 1
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_tests() { cargo test --release --locked "$@" 2>&1 | tee "$log"; }
status=0
stage tests run_tests "$@" || status=$?
# Cargo prints `Running tests/NAME/main.rs (..)`, and for the library's own tests `Running unittests
# src/lib.rs (..)`.
awk '/^ +Doc-tests / { path = "doc" }
     /^ +Running / { path = $2 == "unittests" ? $3 : $2; gsub("^tests/|/main.rs$", "", path) }
     /^test result:/ {
         sub("s$", "", $NF)
         printf "%s%s %.1f", n++ ? ", " : "minutes of tests: ", path, $NF / 60
     }
     END { print "" }' "$log"
echo "minutes: $STAGE_MINUTES"
awk '/^test result:/ { passed += $4; failed += $6 }
     END { printf "total: %d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
