# Sourced. `install_packages NAME ..` installs packages of Debian and Ubuntu. `install_vulkan`
# installs Mesa's Vulkan drivers: the software one, and AMD's, which also compiles without a GPU.
install_packages() {
    if ! command -v apt-get >/dev/null; then
        echo "error: install $* and run this again" >&2
        return 1
    fi
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@"
}

install_vulkan() { install_packages mesa-vulkan-drivers libvulkan1; }
