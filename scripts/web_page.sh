#!/usr/bin/env bash
# Tests pages in headless Chromium, on its software GPU:
#     web_page.sh [FILE.html [--check REFERENCE.json] [--bench FILE.json] [--shots DIR]
#                 [--report FILE.html]]
# Without a file it compares the page of the shipped weights with the program's results, runs each
# of its passes in Dawn, checks a report, and writes screenshots of both pages to target/pages. The
# tests of the page's scripts come first. Installs Chromium (Debian), Dawn and puppeteer-core where
# they are missing; needs Node 20 or newer with npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/vulkan.sh"
. "$here/stage.sh"

fail() {
    echo "error: $1" >&2
    exit 1
}

for program in node npm; do
    command -v "$program" >/dev/null ||
        fail "$program isn't installed: install Node 20 or newer, with npm"
done
find_chromium() {
    command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome
}
if ! CHROMIUM=$(find_chromium); then
    install_packages chromium >/dev/null
    CHROMIUM=$(find_chromium) || fail "Chromium is installed but not found: set CHROMIUM"
fi
cache="${XDG_CACHE_HOME:-$HOME/.cache}/soda/web_page"
PUPPETEER="${PUPPETEER:-$cache}"
if [ ! -d "$PUPPETEER/node_modules/puppeteer-core" ]; then
    mkdir -p "$PUPPETEER"
    npm install --prefix "$PUPPETEER" --no-audit --no-fund --silent puppeteer-core@24 ||
        fail "puppeteer-core can't be installed"
fi
export CHROMIUM PUPPETEER

if [ $# -gt 0 ]; then
    reference=()
    for ((i = 1; i < $#; i++)); do
        next=$((i + 1))
        [ "${!i}" = --check ] && reference=("${!next}")
    done
    node "$here/../assets/web/test.cjs" ${reference[@]+"${reference[@]}"} >/dev/null ||
        fail "the tests of the page's scripts failed: node assets/web/test.cjs ${reference[*]-}"
    exec node "$here/web_page.mjs" "$@"
fi

cd "$here/.."
pages=target/pages
mkdir -p "$pages"
# Without it Mesa's window system code warns on every start.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
stage "page written" cargo run --release --locked --quiet -- \
    export --web "$pages/page.html" --reference "$pages/reference.json" --data bundled \
    --device cpu --quiet
if [ ! tools/gpu/node_modules/.package-lock.json -nt tools/gpu/package-lock.json ]; then
    npm ci --prefix tools/gpu --ignore-scripts --no-audit --no-fund --silent ||
        fail "the packages of tools/gpu can't be installed"
fi
stage "page in Dawn" node tools/gpu/page.mjs "$pages/page.html"
# The test writes its report to SODA_REPORT.
stage "report written" env SODA_REPORT="$PWD/$pages/report.html" \
    cargo test --release --locked --quiet --test command_line -- \
    --exact report::a_report_holds_everything_in_one_file
stage "pages in Chromium" "$here/web_page.sh" "$pages/page.html" --check "$pages/reference.json" \
    --bench "$pages/bench.json" --report "$pages/report.html" --shots "$pages"
# The program reads the browser's results.
cargo run --release --locked --quiet -- \
    bench --compare "$pages/bench.json" "$pages/bench.json" >/dev/null
