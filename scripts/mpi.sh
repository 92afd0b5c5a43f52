#!/usr/bin/env bash
# Builds the program with MPI and tests it with two and three processes (tests/mpi). Installs Open MPI and libclang where they are missing
# (Debian and Ubuntu).
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v mpirun >/dev/null || ! command -v mpicc >/dev/null || ! ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev >/dev/null
fi
cargo clippy --release --locked --features mpi --lib --test mpi -- -D warnings
# One after the other: each is two or three processes.
exec cargo test --release --locked --features mpi --test mpi -- --test-threads 1
