#!/usr/bin/env bash
# Tests and measures a GPU in eight minutes, most important steps first.
#
#   scripts/on_gpu.sh OUT             runs the steps; writes into the folder OUT as each step ends
#   scripts/on_gpu.sh --carry FILE    packs what a machine without Rust needs into FILE (a tar.xz),
#                                     and prints its size
#
# On a machine with the unpacked file, SODA=DIR/soda KERNELS=DIR/kernels
# LAYER=DIR/libvulkan_layer.so name its parts; by default the script uses what cargo built here.
# Further variables:
#   DEVICE=vulkan:0    the device; default: auto, which must find a GPU
#   TIME=480           seconds for everything
#   SKIP="kernels train"       steps to leave out
#   ONLY="devices selftest"    the only steps to run
#   SIZE=small         networks and batches small enough for a software adapter, to try the script
#
# Writes to OUT: summary.txt (one line per step), results.jsonl (each step's result), log.txt (all
# output) and train_metrics.jsonl.
set -uo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"

# Prints the path of the newest test program of tests/NAME that cargo built.
built() {
    find "$here/target/release/deps" -maxdepth 1 -name "$1-*" -executable -type f \
        -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-
}

carry() {
    set -e
    local file=$1 folder
    folder=$(mktemp -d)
    (cd "$here" && cargo build --release --locked --bin soda &&
        cargo test --release --locked --no-run --test kernels)
    strip -o "$folder/soda" "$here/target/release/soda"
    strip -o "$folder/kernels" "$(built kernels)"
    rustc --edition 2024 -O --crate-type cdylib -o "$folder/libvulkan_layer.so" \
        "$here/tests/recovery/faults/vulkan_layer.rs"
    # The dictionary is as large as the programs, so that what they share is stored once.
    tar -C "$folder" -cf - soda kernels libvulkan_layer.so |
        xz --threads=1 --lzma2=preset=6,dict=192MiB >"$file"
    rm -r "$folder"
    local packed tree
    packed=$(stat -c %s "$file")
    tree=$(cd "$here" && git ls-files -z | du -bc --files0-from=- | tail -1 | cut -f1)
    awk -v p="$packed" -v t="$tree" 'BEGIN {
        printf "packed %.1f MiB; with the work tree %.1f MiB\n", p / 2^20, (p + t) / 2^20
    }'
}

if [ "${1:-}" = --carry ] && [ $# = 2 ]; then
    carry "$2"
    exit
fi
if [ $# != 1 ] || [ "${1#-}" != "$1" ]; then
    sed -n '2,20s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

mkdir -p "$1" || exit 1
out="$(cd "$1" && pwd)"
soda=${SODA:-$here/target/release/soda}
kernels=${KERNELS:-$(built kernels)}
layer=${LAYER:-$(find "$here/target/tmp/faults" -name libvulkan_layer.so 2>/dev/null | head -1)}
device=${DEVICE:-auto}
budget=${TIME:-480}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Neither uses an earlier call's caches nor leaves any behind.
export XDG_CACHE_HOME="$work/cache" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$work}"
: >"$out/summary.txt"
: >"$out/results.jsonl"
: >"$out/log.txt"
say() { echo "$*" | tee -a "$out/summary.txt" >&2; }

if [ "${SIZE:-paper}" = small ]; then
    train=(--config quick --set train.batch_size=8 --set sample.steps=2)
    recipe=quick
    memory=20000000
    pytorch=(--batch 4 --base 16 --encoder-base 16 --groups 8 --steps 2)
else
    train=(--config cifar10)
    recipe=gpu_hour
    memory=4000000000
    pytorch=(--batch 256 --base 128 --steps 10)
fi
train+=(--data bundled --set train.log_every=1 --set train.evaluate_every=0)

# step NAME SECONDS COMMAND ..: runs the command for at most SECONDS and the time left. If it writes
# $work/NAME.json, that goes into the results.
step() {
    local name=$1 most=$2 status=0 began left json
    shift 2
    case " ${ONLY:-$name} " in *" $name "*) ;; *) return ;; esac
    case " ${SKIP:-} " in *" $name "*) say "$name: skipped"; return ;; esac
    left=$((budget - SECONDS))
    if [ "$left" -lt 5 ]; then
        say "$name: no time left"
        return
    fi
    [ "$most" -le "$left" ] || most=$left
    began=$SECONDS
    echo "== $name: $*" >>"$out/log.txt"
    timeout --kill-after=5 "$most" "$@" >"$work/$name.out" 2>&1 || status=$?
    cat "$work/$name.out" >>"$out/log.txt"
    json=null
    # The result is a file, or the last line if that is a JSON object.
    if [ -s "$work/$name.json" ]; then
        json=$(tr -d '\n' <"$work/$name.json")
    elif [ "$status" = 0 ] && tail -1 "$work/$name.out" | grep -q '^{.*}$'; then
        json=$(tail -1 "$work/$name.out")
    fi
    printf '{"step":"%s","status":%d,"seconds":%d,"result":%s}\n' \
        "$name" "$status" $((SECONDS - began)) "$json" >>"$out/results.jsonl"
    case $status in
    0) verdict=ok ;;
    124 | 137) verdict="timed out" ;;
    *) verdict="failed ($status)" ;;
    esac
    say "$name: $verdict, $((SECONDS - began)) s;" \
        "$(grep -v '^ *$' "$work/$name.out" | tail -1 | cut -c1-200)"
}

# fails NAME SECONDS COMMAND ..: a step that passes if the command ends by itself with exit status 1
# and a message.
fails() {
    local name=$1 most=$2
    shift 2
    step "$name" "$most" bash -c \
        '"$@"; status=$?; [ $status = 1 ] || { echo "ended with $status, not 1"; exit 9; }' - "$@"
}

soda_step() {
    local name=$1 most=$2
    shift 2
    step "$name" "$most" "$soda" "$@" --device "$device" --json "$work/$name.json"
}

say "$(date -u +%Y-%m-%dT%H:%MZ) $("$soda" --version)" \
    "$(cd "$here" && git rev-parse --short HEAD 2>/dev/null) on $device"
step gpu 10 bash -c '
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit \
        --format=csv,noheader 2>&1 ||
        lspci 2>&1 | grep -Ei "vga|3d|display" || uname -a'
step devices 20 "$soda" devices --json "$work/devices.json"
soda_step selftest 60 selftest
step kernels 80 "${kernels:-false}"
soda_step bench_kernels 60 bench --suite kernels --budget 45
soda_step bench_step 80 bench --suite step --budget 60 --profile
soda_step bench_step_f16 70 bench --suite step --precision f16 --budget 50 --profile
for precision in fp32 tf32 amp; do
    step "pytorch_$precision" 25 \
        python3 "$here/scripts/pytorch_step.py" --precision "$precision" "${pytorch[@]}"
done
soda_step train 120 train "${train[@]}" --max-minutes 1.5 --run "$work/run"
cp "$work/run/metrics.jsonl" "$out/train_metrics.jsonl" 2>/dev/null
soda_step train_mixed 60 \
    train "${train[@]}" --set train.precision=mixed --max-minutes 0.6 --run "$work/mixed"
soda_step bench_recipe 40 bench --config "$recipe" --budget 30
soda_step bench_inference 40 bench --suite inference --budget 30
soda_step bench_inference_f16 40 bench --suite inference --precision f16 --budget 30
# Faults from a Vulkan layer below the program: too little device memory, and a lost device.
if [ -n "${layer:-}" ]; then
    cat >"$work/faults.json" <<JSON
{ "file_format_version": "1.0.0", "layer": { "name": "VK_LAYER_SODA_faults", "type": "GLOBAL",
  "library_path": "$(realpath "$layer")", "api_version": "1.3.0",
  "implementation_version": "1", "description": "a driver that fails" } }
JSON
    for fault in "memory:$memory" lost lost_wait; do
        fails "fault_${fault%%:*}" 40 \
            env VK_LAYER_PATH="$work" VK_INSTANCE_LAYERS=VK_LAYER_SODA_faults FAULT="$fault" \
            "$soda" train "${train[@]}" --device "$device" --run "$work/$fault"
    done
else
    say "faults: skipped, no libvulkan_layer.so (set LAYER)"
fi
say "$SECONDS s in all; $out"
