#!/usr/bin/env bash
# What to find out first on a GPU, most important first, in eight minutes.
#
#   scripts/on_gpu.sh OUT             measures; writes into the folder OUT as each step ends
#   scripts/on_gpu.sh --carry FILE    packs what a machine without Rust needs into FILE (a tar.xz), and says how large it is
#
# Where the packed file is unpacked, SODA=DIR/soda KERNELS=DIR/kernels LAYER=DIR/libvulkan_layer.so name its parts; without them it is what
# cargo built here. Further variables:
#   DEVICE=vulkan:0    which device; default: auto, which must find a GPU
#   TIME=480           seconds for everything
#   SKIP="pytorch"     steps to leave out, ONLY="devices selftest" steps to run alone
#   SIZE=small         networks and batches that a software adapter can do: to try the script itself
#
# OUT gets summary.txt (a line a step), results.jsonl (what each step found), log.txt (all that was printed), train_metrics.jsonl.
set -uo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"

# The newest program of tests/NAME that cargo built.
built() { find "$here/target/release/deps" -maxdepth 1 -name "$1-*" -executable -type f -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-; }

carry() {
    set -e
    local file=$1 folder
    folder=$(mktemp -d)
    (cd "$here" && cargo build --release --locked --bin soda && cargo test --release --locked --no-run --test kernels)
    strip -o "$folder/soda" "$here/target/release/soda"
    strip -o "$folder/kernels" "$(built kernels)"
    rustc --edition 2024 -O --crate-type cdylib -o "$folder/libvulkan_layer.so" "$here/tests/recovery/faults/vulkan_layer.rs"
    # A dictionary as large as the programs: what they share is stored once.
    tar -C "$folder" -cf - soda kernels libvulkan_layer.so | xz --threads=1 --lzma2=preset=6,dict=192MiB >"$file"
    rm -r "$folder"
    local packed tree
    packed=$(stat -c %s "$file")
    tree=$(cd "$here" && git ls-files -z | du -bc --files0-from=- | tail -1 | cut -f1)
    awk -v p="$packed" -v t="$tree" 'BEGIN { printf "packed %.1f MiB; with the work tree %.1f MiB\n", p / 2^20, (p + t) / 2^20 }'
}

if [ "${1:-}" = --carry ] && [ $# = 2 ]; then
    carry "$2"
    exit
fi
if [ $# != 1 ] || [ "${1#-}" != "$1" ]; then
    sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
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
# Nothing that an earlier call left is to be found, nor is anything to stay.
export XDG_CACHE_HOME="$work/cache" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$work}"
: >"$out/summary.txt"
: >"$out/results.jsonl"
: >"$out/log.txt"
say() { echo "$*" | tee -a "$out/summary.txt" >&2; }

if [ "${SIZE:-paper}" = small ]; then
    train=(--config quick --set train.batch_size=8 --set sample.steps=2)
    memory=20000000
    pytorch=(--batch 4 --base 16 --encoder-base 16 --groups 8 --steps 2)
else
    train=(--config cifar10)
    memory=4000000000
    pytorch=(--batch 256 --base 128 --steps 10)
fi
train+=(--data bundled --set train.log_every=1 --set train.evaluate_every=0)

# step NAME SECONDS COMMAND ..: runs it within its time and what is left of all. Where it writes $work/NAME.json, that goes into the results.
step() {
    local name=$1 most=$2 status=0 began left json
    shift 2
    case " ${ONLY:-$name} " in *" $name "*) ;; *) return ;; esac
    case " ${SKIP:-} " in *" $name "*) say "$name: left out"; return ;; esac
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
    # A file, or a last line that is an object.
    if [ -s "$work/$name.json" ]; then
        json=$(tr -d '\n' <"$work/$name.json")
    elif [ "$status" = 0 ] && tail -1 "$work/$name.out" | grep -q '^{.*}$'; then
        json=$(tail -1 "$work/$name.out")
    fi
    printf '{"step":"%s","status":%d,"seconds":%d,"result":%s}\n' "$name" "$status" $((SECONDS - began)) "$json" >>"$out/results.jsonl"
    case $status in
    0) verdict=ok ;;
    124 | 137) verdict="cut off" ;;
    *) verdict="failed ($status)" ;;
    esac
    say "$name: $verdict, $((SECONDS - began)) s; $(grep -v '^ *$' "$work/$name.out" | tail -1 | cut -c1-200)"
}

# fails NAME SECONDS COMMAND ..: a step that is right where the command ends by itself with exit status 1 and a message.
fails() {
    local name=$1 most=$2
    shift 2
    step "$name" "$most" bash -c '"$@"; status=$?; [ $status = 1 ] || { echo "ended with $status, not 1"; exit 9; }' - "$@"
}

soda_step() {
    local name=$1 most=$2
    shift 2
    step "$name" "$most" "$soda" "$@" --device "$device" --json "$work/$name.json"
}

say "$(date -u +%Y-%m-%dT%H:%MZ) $("$soda" --version) $(cd "$here" && git rev-parse --short HEAD 2>/dev/null) on $device"
step gpu 10 bash -c 'nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader 2>&1 || lspci 2>&1 | grep -Ei "vga|3d|display" || uname -a'
soda_step devices 20 devices
soda_step selftest 60 selftest
step kernels 80 "${kernels:-false}"
soda_step bench_kernels 60 bench --suite kernels --budget 45
soda_step bench_step 80 bench --suite step --budget 60 --profile
soda_step bench_step_f16 70 bench --suite step --precision f16 --budget 50 --profile
for precision in fp32 tf32 amp; do
    step "pytorch_$precision" 25 python3 "$here/scripts/pytorch_step.py" --precision "$precision" "${pytorch[@]}"
done
soda_step train 120 train "${train[@]}" --max-minutes 1.5 --run "$work/run"
cp "$work/run/metrics.jsonl" "$out/train_metrics.jsonl" 2>/dev/null
soda_step train_mixed 60 train "${train[@]}" --set train.precision=mixed --max-minutes 0.6 --run "$work/mixed"
soda_step bench_inference 40 bench --suite inference --budget 30
soda_step bench_inference_f16 40 bench --suite inference --precision f16 --budget 30
# A layer of Vulkan below the program: the device's memory ends early, and the device is lost.
if [ -n "${layer:-}" ]; then
    cat >"$work/faults.json" <<JSON
{ "file_format_version": "1.0.0", "layer": { "name": "VK_LAYER_SODA_faults", "type": "GLOBAL", "library_path": "$(realpath "$layer")",
  "api_version": "1.3.0", "implementation_version": "1", "description": "a driver that fails" } }
JSON
    for fault in "memory:$memory" lost lost_wait; do
        fails "fault_${fault%%:*}" 40 env VK_LAYER_PATH="$work" VK_INSTANCE_LAYERS=VK_LAYER_SODA_faults FAULT="$fault" \
            "$soda" train "${train[@]}" --device "$device" --run "$work/$fault"
    done
else
    say "faults: left out, no libvulkan_layer.so (LAYER)"
fi
say "$SECONDS s in all; $out"
