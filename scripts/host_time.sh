#!/bin/bash
# Measures the host's time at paper size: training steps, encoding and sampling steps, each of 256
# and of 32 images.
#   scripts/host_time.sh [PROGRAM] [ARGS..]
# PROGRAM defaults to target/release/soda; ARGS go to `soda bench`, for example --json F.json.
# Software Vulkan stands in for an NVIDIA card, under a Vulkan layer that submits no work: nothing
# is computed, and only the host takes time. The driver's share is Mesa's, not that of a real card's
# driver. PROFILE=F.data also records where the time goes (perf).
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
program=$tree/target/release/soda
case ${1:--} in -*) ;; *) program=$1 && shift ;; esac
layer=$(mktemp -d)
trap 'rm -r "$layer"' EXIT
rustc --edition 2024 -O --crate-type cdylib -o "$layer/libvulkan_layer.so" \
    "$tree/tests/recovery/faults/vulkan_layer.rs"
cat >"$layer/faults.json" <<END
{"file_format_version": "1.0.0", "layer": {"name": "VK_LAYER_SODA_faults", "type": "GLOBAL",
 "library_path": "$layer/libvulkan_layer.so", "api_version": "1.3.0",
 "implementation_version": "1", "description": "a GPU that takes no time"}}
END
export VK_LAYER_PATH=$layer VK_INSTANCE_LAYERS=VK_LAYER_SODA_faults FAULT=idle:4318
${PROFILE:+perf record -F 499 --call-graph dwarf,8192 -o "$PROFILE"} \
    "$program" bench --suite host --device vulkan --budget 200 "$@"
