#!/usr/bin/env bash
# Checks spelling and the words of typos.toml in sources, documents and scripts. Fetches the linter
# (typos) if it isn't installed. Reports NOT CHECKED if it can't be fetched; fails on any finding.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! typos --version >/dev/null 2>&1; then
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    wheel='typos==1.52.0'
    wheel+=' --hash=sha256:418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6'
    echo "$wheel" >"$tools/typos.txt"
    if ! { python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install --quiet \
        --disable-pip-version-check --no-deps --require-hashes -r "$tools/typos.txt"; }; then
        echo "typos can't be fetched: the prose is NOT CHECKED (cargo install typos-cli)"
        exit 0
    fi
    export PATH="$tools/venv/bin:$PATH"
fi
typos --format brief
