#!/usr/bin/env bash
# Installs GPU compilers in tools/gpu/compilers, from apt, pip and Debian's sources only:
#     setup.sh amd|intel|nvidia|nak ..
# For Debian 12 on x86-64, as root. Minutes on two cores: amd 1, nvidia 2, intel and nak 5 each
# (they build parts of Mesa).
#   amd     Mesa 25.0.7 with RADV, whose null winsys compiles without a GPU
#   intel   the same Mesa with ANV, and a stand-in for Intel's kernel driver
#   nvidia  slangc, NVRTC, ptxas and nvdisasm: CUDA's code generator
#   nak     a newer Debian in a folder, whose Mesa has NVK, and a stand-in for the nouveau driver
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,9p' "$0" >&2; exit 2; }
folder="$(cd "$(dirname "$0")" && pwd)/compilers"
mkdir -p "$folder" && cd "$folder"
wanted=" $* "
has() { [[ $wanted == *" $1 "* ]]; }
installed() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

# What Mesa's drivers depend on, and the Vulkan loader.
installed libvulkan1 mesa-vulkan-drivers
[ -d venv ] || python3 -m venv venv

mesa=mesa-25.0.7
if has amd || has intel || has nak; then
    # A second apt configuration that only downloads newer packages, from this machine's mirror.
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' \
        /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | sed -n '1{s/ //g;p;q}' || true)
    [ -n "$mirror" ] || { echo "error: no Debian mirror among apt's sources" >&2; exit 1; }
    mkdir -p apt/lists/partial apt/cache/archives/partial
    for kind in deb deb-src; do
        echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
            "$mirror bookworm-backports main"
    done >apt/sources.list
    cat >apt/apt.conf <<END
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$folder/apt/lists";
Dir::Cache "$folder/apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
END
    newer() { APT_CONFIG="$folder/apt/apt.conf" apt-get "$@"; }
    newer update -qq >/dev/null
fi
if has amd || has intel; then
    if [ ! -d mesa ]; then
        mkdir -p debs
        (cd debs && newer download -qq mesa-vulkan-drivers/bookworm-backports \
            libdrm2/bookworm-backports libdrm-amdgpu1/bookworm-backports >/dev/null)
        for package in debs/*.deb; do dpkg-deb -x "$package" mesa; done
    fi
fi
if has intel || has nak; then
    installed libdrm-dev pkg-config zlib1g-dev libzstd-dev libexpat1-dev libelf-dev bison flex \
        glslang-tools gcc g++
    venv/bin/pip install -q meson ninja mako pyyaml packaging
    # Mesa's own sources are enough, without Debian's patches.
    [ -f mesa_25.0.7.orig.tar.xz ] ||
        newer source -qq --download-only mesa/bookworm-backports >/dev/null 2>&1 || true
    [ -d $mesa ] || tar xf mesa_25.0.7.orig.tar.xz
    export PATH="$folder/venv/bin:$PATH"
    off=()
    for option in llvm glx egl gbm gles1 gles2 intel-rt valgrind libunwind xmlconfig gallium-vdpau \
        gallium-va; do
        off+=("-D$option=disabled")
    done
    [ -f shim/build.ninja ] || meson setup shim $mesa -Dgallium-drivers=nouveau,crocus \
        -Dvulkan-drivers= -Dtools=drm-shim -Dplatforms= -Dopengl=false -Dbuildtype=release \
        "${off[@]}" >/dev/null
    ninja -C shim src/nouveau/drm-shim/libnouveau_noop_drm_shim.so src/intel/dev/libintel_dev.a \
        src/intel/common/libintel_common.a src/util/libparson.a \
        src/intel/dev/intel_device_info_serialize_gen.c >/dev/null
    cp shim/src/nouveau/drm-shim/libnouveau_noop_drm_shim.so .
    # Mesa's build of its Intel stand-in pulls in unneeded targets; compiling its sources directly
    # is quick.
    defined=(HAVE_PTHREAD HAVE_SECURE_GETENV _GNU_SOURCE HAVE_TIMESPEC_GET HAVE_STRUCT_TIMESPEC
        UTIL_ARCH_LITTLE_ENDIAN=1 UTIL_ARCH_BIG_ENDIAN=0 HAVE_FUNC_ATTRIBUTE_PACKED HAVE_ENDIAN_H
        HAVE___BUILTIN_UNREACHABLE HAVE___BUILTIN_EXPECT HAVE___BUILTIN_CLZ HAVE___BUILTIN_CLZLL
        HAVE___BUILTIN_CTZ HAVE___BUILTIN_FFS HAVE___BUILTIN_FFSLL HAVE___BUILTIN_POPCOUNT
        HAVE___BUILTIN_POPCOUNTLL NDEBUG)
    archives=(shim/src/drm-shim/libdrm_shim.a shim/src/intel/dev/libintel_dev.a
        shim/src/intel/common/libintel_common.a)
    mapfile -t util < <(find shim/src/util shim/src/c11 -name '*.a' 2>/dev/null)
    gcc -shared -std=gnu11 -O1 -fPIC -fvisibility=hidden -w "${defined[@]/#/-D}" -I$mesa/include \
        -I$mesa/src -I$mesa/src/intel -Ishim/src -Ishim/src/intel -Ishim/src/intel/dev \
        -I/usr/include/libdrm -o libintel_noop_drm_shim.so \
        $mesa/src/intel/tools/intel_noop_drm_shim.c \
        shim/src/intel/dev/intel_device_info_serialize_gen.c \
        -Wl,--start-group "${archives[@]}" "${util[@]}" -Wl,--end-group \
        -ldrm -lz -lzstd -lm -lpthread -ldl
fi
if has nvidia; then
    venv/bin/pip install -q --no-deps \
        slangtorch nvidia-cuda-nvcc nvidia-cuda-nvrtc nvidia-cuda-nvdisasm
    chmod +x venv/lib/python*/site-packages/slangtorch/bin/slangc
fi
if has nak; then
    installed mmdebstrap
    [ -d sid ] || mmdebstrap -q --variant=apt --include=mesa-vulkan-drivers,libvulkan1 \
        --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
        sid sid "$mirror"
    mkdir -p sid/w
    cp libnouveau_noop_drm_shim.so sid/w/
fi
echo "ready: $*"
