#!/usr/bin/env bash
# A page of `soda export --web` in headless Chromium: web_page.sh FILE.html [--check REFERENCE.json] [--shots DIR] [--report FILE.html]
# Tests its scripts first. Installs Chromium (Debian and its like) and puppeteer-core (into the user's cache) where they aren't there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/vulkan.sh"

node_is_there() { command -v node >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]; }
if ! node_is_there; then
    install_packages nodejs npm >/dev/null
    node_is_there || {
        echo "error: node 18 or later is needed" >&2
        exit 1
    }
fi
find_chromium() { command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome; }
if ! CHROMIUM=$(find_chromium); then
    install_packages chromium >/dev/null
    CHROMIUM=$(find_chromium)
fi
cache="${XDG_CACHE_HOME:-$HOME/.cache}/soda/web_page"
PUPPETEER="${PUPPETEER:-$cache}"
if [ ! -d "$PUPPETEER/node_modules/puppeteer-core" ]; then
    mkdir -p "$PUPPETEER"
    npm install --prefix "$PUPPETEER" --no-audit --no-fund --silent puppeteer-core@24
fi
export CHROMIUM PUPPETEER

reference=()
for ((i = 1; i < $#; i++)); do
    next=$((i + 1))
    [ "${!i}" = --check ] && reference=("${!next}")
done
node "$here/../assets/web/test.cjs" ${reference[@]+"${reference[@]}"} >/dev/null || {
    echo "error: the tests of the page's scripts failed: node assets/web/test.cjs ${reference[*]-}" >&2
    exit 1
}
exec node "$here/web_page.mjs" "$@"
