# Sourced. `install_vulkan` installs Mesa's Vulkan drivers: the software one, and AMD's, which also compiles without a GPU (Debian, Ubuntu).
install_vulkan() {
    if ! command -v apt-get >/dev/null; then
        echo "error: install Mesa's Vulkan drivers and run this again" >&2
        return 1
    fi
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq mesa-vulkan-drivers libvulkan1
}
