#!/usr/bin/env bash
# Checks spelling and the words listed in typos.toml in sources, documents and scripts. Fetches the
# spell checker (typos) if it isn't installed. Reports NOT CHECKED if it can't be fetched; fails on
# any finding.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/wheel.sh

if ! fetch_wheel typos typos==1.52.0 \
    418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6; then
    echo "typos can't be fetched: the prose is NOT CHECKED (cargo install typos-cli)"
    exit 0
fi
typos --format brief
