#!/usr/bin/env bash
# The self test on a second software driver, SwiftShader, Chromium's, and by another API, Mesa's software OpenGL. What Mesa's lavapipe
# forgives another may not. Installs them on Debian and its like where they aren't there.
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
# Not by another driver than the one that is meant.
checked() {
    cargo run --release --locked --quiet -- selftest --device "$1" --json "$result"
    grep -q "$2" "$result" || {
        echo "error: that wasn't $2" >&2
        exit 1
    }
}
VK_DRIVER_FILES="$driver" checked vulkan SwiftShader

compgen -G '/usr/lib*/*/libEGL_mesa.so.0' >/dev/null || install_packages libegl1 libegl-mesa0 libgl1 libgles2 libgl1-mesa-dri >/dev/null
LIBGL_ALWAYS_SOFTWARE=1 checked gl llvmpipe
