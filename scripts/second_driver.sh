#!/usr/bin/env bash
# The self test on a second software driver: SwiftShader, Chromium's. What Mesa's lavapipe forgives another driver may not. Installs it on
# Debian and its like where it isn't there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh

# Folders of Chromium's files: where SWIFTSHADER says, on Debian, on Ubuntu.
find_driver() {
    for folder in ${SWIFTSHADER:-} /usr/lib/chromium /usr/lib/chromium-browser; do
        [ -f "$folder/vk_swiftshader_icd.json" ] && echo "$folder/vk_swiftshader_icd.json" && return
    done
    return 1
}

if ! driver=$(find_driver); then
    install_packages chromium libvulkan1 >/dev/null
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
