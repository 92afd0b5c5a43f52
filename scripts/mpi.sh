#!/usr/bin/env bash
# Builds the program with MPI and tests it with two and three processes (tests/mpi). Installs Open
# MPI, libclang and a software Vulkan driver where they are missing (Debian and Ubuntu).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh

if ! command -v mpirun >/dev/null || ! command -v mpicc >/dev/null ||
    ! ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1; then
    install_packages libopenmpi-dev openmpi-bin libclang-dev
fi
# Without it Mesa's window system code warns on every start.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
cargo clippy --release --locked --features mpi --lib --bins --test mpi -- -D warnings
found=$(cargo run --release --locked --quiet --features mpi -- devices)
if grep -q '^no adapter' <<<"$found"; then
    install_vulkan
fi
# One test at a time: each runs two or three processes.
exec cargo test --release --locked --features mpi --test mpi -- --test-threads 1
