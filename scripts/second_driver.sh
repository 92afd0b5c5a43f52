#!/usr/bin/env bash
# Runs the self test on a second software Vulkan driver, Chromium's SwiftShader, and through another
# API, Mesa's software OpenGL: they may reject what Mesa's lavapipe accepts. Installs them where
# they are missing (Debian; Ubuntu's package of Chromium is a snap without the driver).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh

# Looks for Chromium's driver in $SWIFTSHADER and in the folders of Linux packages.
find_driver() {
    for folder in "${SWIFTSHADER:-/usr/lib/chromium}" /usr/lib/chromium /usr/lib/chromium-browser \
        /opt/google/chrome; do
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
# Runs the self test on device $1; fails if it ran on another driver than $2.
checked() {
    cargo run --release --locked --quiet -- selftest --device "$1" --json "$result"
    grep -q "$2" "$result" || {
        echo "error: the self test on $1 didn't run on $2" >&2
        exit 1
    }
}
VK_DRIVER_FILES="$driver" checked vulkan SwiftShader

compgen -G '/usr/lib*/*/libEGL_mesa.so.0' >/dev/null ||
    install_packages libegl1 libegl-mesa0 libgl1 libgles2 libgl1-mesa-dri >/dev/null
LIBGL_ALWAYS_SOFTWARE=1 checked gl llvmpipe
