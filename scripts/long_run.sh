#!/usr/bin/env bash
# Starts a long training, or goes on with it, at the lowest priority and outside the work tree:
#
#     scripts/long_run.sh [--config FILE] [--dir DIR] [--data DIR] [--snapshot] [-- TRAIN-FLAG ..]
#
# --dir      where it lives (default: $XDG_STATE_HOME/soda-long-run, else ~/.local/state/soda-long-run): the run in DIR/run, and the
#            program that began it, DIR/soda, so that builds don't disturb it. Remove DIR/soda to go on with a newer one.
# --config   the recipe (default: tiny), asked for by a new run; one that goes on has its own.
# --snapshot doesn't train: writes the newest checkpoint as 16-bit weights to assets/long_run/snapshot.safetensors, in place of the one
#            before. Where DIR holds no run yet, training goes on from that file (`soda train --from F --continue`).
#
# While a file DIR/PAUSE exists, training stands still: it writes a checkpoint and ends, and begins again when the file is gone. SIGTERM and
# Ctrl-C end the script, with a checkpoint; a closed terminal doesn't. A training that fails ends it with its status. SODA names another program than target/release/soda,
# SNAPSHOT another file than that of the tree.
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)

config=tiny dir=${XDG_STATE_HOME:-$HOME/.local/state}/soda-long-run data=() snapshot=
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
    --config) config=${2:?$1 needs a recipe}; shift 2 ;;
    --dir) dir=${2:?$1 needs a folder}; shift 2 ;;
    --data) data=(--data "${2:?$1 needs a folder}"); shift 2 ;;
    --snapshot) snapshot=yes; shift ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: $1: see --help" >&2; exit 2 ;;
    esac
done
# Before anything is made, and whatever links lead there.
dir=$(realpath -m -- "$dir")
case $dir/ in "$(realpath "$tree")"/*) echo "error: $dir lies in the work tree; name another folder with --dir" >&2; exit 2 ;; esac
mkdir -p "$dir"
saved=${SNAPSHOT:-$tree/assets/long_run/snapshot.safetensors}

if [ ! -x "$dir/soda" ]; then
    program=${SODA:-$tree/target/release/soda}
    [ -x "$program" ] || (cd "$tree" && cargo build --release --locked --bin soda)
    cp "$program" "$dir/soda.partial"
    mv "$dir/soda.partial" "$dir/soda"
fi

if [ -n "$snapshot" ]; then
    mkdir -p "$(dirname "$saved")"
    exec nice -n 19 "$dir/soda" export --run "$dir/run" --half --out "$saved" ${data[@]+"${data[@]}"}
fi

child= stop= asked=
# Once: a second signal would end the training without a checkpoint.
ask() {
    [ -n "$child" ] && [ -z "$asked" ] || return 0
    asked=yes
    kill -TERM "$child" 2>/dev/null || true
}
end() {
    stop=yes
    ask
}
trap end TERM INT
# As under nohup: who logs out doesn't end it.
trap '' HUP
# Linux shares processors among sessions first, by niceness within each: one that this script leads (setsid) steps back as a whole.
[ "$(ps -o sid= -p $$ 2>/dev/null | tr -d ' ')" != "$$" ] || { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
# The training in a process group of its own: Ctrl-C reaches it through this script alone.
set -m

while [ -z "$stop" ]; do
    if [ -e "$dir/PAUSE" ]; then
        sleep 1 || true
        continue
    fi
    begin=()
    if [ -e "$dir/run/config.toml" ]; then
        echo "going on with $dir/run"
    else
        begin=(--config "$config")
        [ ! -e "$saved" ] || begin+=(--from "$saved" --continue)
        echo "beginning $dir/run: ${begin[*]}"
    fi
    asked= paused=
    nice -n 19 "$dir/soda" train --resume --run "$dir/run" ${begin[@]+"${begin[@]}"} ${data[@]+"${data[@]}"} "$@" &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        # A signal may have come before the child was known.
        [ -z "$stop" ] || ask
        if [ -z "$paused" ] && [ -e "$dir/PAUSE" ]; then
            paused=yes
            echo "paused: $dir/PAUSE is there"
            ask
        fi
        sleep 1 || true
    done
    status=0
    wait "$child" || status=$?
    child=
    # Asked to end, it ends with 0, or with 143 where it hadn't begun to listen; any other status is a failure.
    if [ -n "$asked" ]; then
        case $status in 0 | 143) ;; *) exit "$status" ;; esac
    else
        exit "$status"
    fi
done
