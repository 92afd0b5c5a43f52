#!/usr/bin/env bash
# Makes the newest checkpoint of a run the weights that come with the program, scores them and draws
# the documents' pictures with them:
#
#     scripts/ship_weights.sh --run RUN --data DIR [--card DIR] [-- EXPORT-FLAG ..]
#
# --run      the run directory of a recipe with the networks of configs/small.toml.
# --data     all of CIFAR-10. The test set is read, so choose the checkpoint by other scores.
# --card     where finished evaluations are kept, so that an interrupted call continues (default:
#            target/card). Use a new folder for other weights.
#
# EXPORT-FLAG replaces the flags of soda export, --set data.source.side=48: the encoder then sees
# whole images at 48 pixels (docs/recipes.md, "The size at which z is made"), and BatchNorm's
# statistics are computed for that size. SODA names another program than target/release/soda.
#
# Afterwards: build the program again, which holds the weights; look at every picture; put the new
# scores into README.md and docs/evaluation.md.
set -euo pipefail
cd "$(dirname "$0")/.."

run='' data='' card=target/card flags=(--set data.source.side=48)
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
    --run) run=${2:?$1 needs a folder}; shift 2 ;;
    --data) data=${2:?$1 needs a folder}; shift 2 ;;
    --card) card=${2:?$1 needs a folder}; shift 2 ;;
    --) shift; [ $# -eq 0 ] || flags=("$@"); break ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: $1: see --help" >&2; exit 2 ;;
    esac
done
[ -n "$run" ] && [ -n "$data" ] || { usage >&2; exit 2; }
soda=${SODA:-target/release/soda}
shipped=assets/weights/small

# Kept next to the card, so that a call that continues evaluates the same weights while the run goes
# on: their scores in training, and the losses of every thousandth step. Rows of steps before the
# first of the run, which continued other weights, are those shipped so far.
mkdir -p "$card"
weights=$card/$(basename $shipped).safetensors
if [ ! -e "$weights" ]; then
    step() { sed -E 's/^\{"step":([0-9]+),.*/\1/' <<<"$1"; }
    first=$(step "$(head -n 1 "$run/metrics.jsonl")")
    {
        while read -r row; do
            [ "$(step "$row")" -ge "$first" ] || printf '%s\n' "$row"
        done <assets/weights/metrics.jsonl
        grep -E '"(linear|knn)":|"step":[0-9]*000,' "$run/metrics.jsonl"
    } >"$card/metrics.jsonl"
    "$soda" export --run "$run" --half "${flags[@]}" --data "$data" --out "$weights"
fi
python3 scripts/model_card.py --soda "$soda" --weights "$weights" --data "$data" --out "$card"

cp "$weights" $shipped.safetensors
cp "$card/scores.json" $shipped.json
{
    printf '# Scores of %s on CIFAR-10\n\n' "$(basename $shipped).safetensors"
    printf 'Commands take all of CIFAR-10, `--data DIR`.\n\n'
    cat "$card/tables.md"
} >assets/weights/scores.md
cp "$card/metrics.jsonl" assets/weights/
cp "$card/pictures/reconstruction.png" assets/readme/
cp "$card"/pictures/{diagnosis,directions,interpolation,inversion,mix,samples}.png docs/pictures/
