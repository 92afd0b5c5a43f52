#!/usr/bin/env bash
# The self test on a second software driver: SwiftShader, Chromium's. What Mesa's lavapipe forgives another driver may not. Installs it on
# Debian and its like where it isn't there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Folders of Chromium's files on Debian, Ubuntu and where it was unpacked.
find_driver() {
    for folder in ${SWIFTSHADER:-} /usr/lib/chromium /usr/lib/chromium-browser; do
        [ -f "$folder/vk_swiftshader_icd.json" ] && echo "$folder/vk_swiftshader_icd.json" && return
    done
    return 1
}

if ! driver=$(find_driver); then
    if ! command -v apt-get >/dev/null; then
        echo "error: install Chromium, whose SwiftShader is needed, or name its folder: SWIFTSHADER=DIR" >&2
        exit 1
    fi
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium libvulkan1 >/dev/null
    driver=$(find_driver) || {
        echo "error: Chromium is installed, but it has no vk_swiftshader_icd.json" >&2
        exit 1
    }
fi
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}"
result=$(mktemp)
trap 'rm -f "$result"' EXIT
VK_DRIVER_FILES="$driver" cargo run --release --locked --quiet -- selftest --device vulkan --json "$result"
# Not by another driver.
grep -q SwiftShader "$result" || {
    echo "error: that wasn't SwiftShader" >&2
    exit 1
}
