#!/usr/bin/env bash
# Starts or resumes a long training run, at the lowest priority and outside the work tree:
#
#     scripts/long_run.sh [--config FILE] [--dir DIR] [--data DIR] [--snapshot] [-- TRAIN-FLAG ..]
#
# --dir      the folder of the run (default: $XDG_STATE_HOME/soda-long-run, else
#            ~/.local/state/soda-long-run): the run is in DIR/run, and a copy of the program that
#            started it in DIR/soda, so that builds don't disturb it. Remove DIR/soda to continue
#            with a newer program.
# --config   the recipe of a new run (default: small); a resumed run keeps its own.
# --data     the data set, passed on to soda.
# --snapshot doesn't train: writes the newest checkpoint as f16 weights to
#            assets/long_run/snapshot.safetensors, replacing the previous snapshot. Where DIR holds
#            no run yet, training continues from that file (`soda train --from F --continue`).
#
# While the file DIR/PAUSE exists, training is paused: it writes a checkpoint and ends, and resumes
# when the file is gone. SIGTERM and Ctrl-C end the script with a checkpoint; closing the terminal
# doesn't. If training fails, the script ends with its exit status. SODA names another program than
# target/release/soda, SNAPSHOT another file than the one in the work tree.
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)

config=small dir=${XDG_STATE_HOME:-$HOME/.local/state}/soda-long-run data=() snapshot=
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
# Prints the path of folder $1, which needn't exist, with symbolic links resolved.
resolved() {
    local path=$1 rest=
    while [ ! -d "$path" ]; do
        rest=/$(basename "$path")$rest
        path=$(dirname "$path")
    done
    echo "$(cd "$path" && pwd -P)$rest"
}
# Checked before anything is created.
dir=$(resolved "$dir")
case $dir/ in
"$(resolved "$tree")"/*)
    echo "error: $dir lies in the work tree; name another folder with --dir" >&2
    exit 2
    ;;
esac
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
    exec nice -n 19 "$dir/soda" export --run "$dir/run" --half --out "$saved" \
        ${data[@]+"${data[@]}"}
fi

child= stop= asked=
# Asks the training to end, once: a second signal would end it without a checkpoint.
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
# As under nohup: logging out doesn't end the script.
trap '' HUP
# Linux divides CPU time among sessions first, and by niceness within each. If this script leads its
# session (setsid), lower the priority of the whole session.
[ "$(ps -o sid= -p $$ 2>/dev/null | tr -d ' ')" != "$$" ] ||
    { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
# Training gets its own process group, so that Ctrl-C reaches it only through this script.
set -m

while [ -z "$stop" ]; do
    if [ -e "$dir/PAUSE" ]; then
        sleep 1 || true
        continue
    fi
    begin=()
    if [ -e "$dir/run/config.toml" ]; then
        echo "resuming $dir/run"
    else
        begin=(--config "$config")
        [ ! -e "$saved" ] || begin+=(--from "$saved" --continue)
        echo "starting $dir/run: ${begin[*]}"
    fi
    asked= paused=
    nice -n 19 "$dir/soda" train --resume --run "$dir/run" \
        ${begin[@]+"${begin[@]}"} ${data[@]+"${data[@]}"} "$@" &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        # A signal may have arrived before the child was known.
        [ -z "$stop" ] || ask
        if [ -z "$paused" ] && [ -e "$dir/PAUSE" ]; then
            paused=yes
            echo "paused until $dir/PAUSE is removed"
            ask
        fi
        sleep 1 || true
    done
    status=0
    wait "$child" || status=$?
    child=
    # When asked to end, it exits with 0, or with 143 if it wasn't yet handling signals; any other
    # status is a failure.
    if [ -n "$asked" ]; then
        case $status in 0 | 143) ;; *) exit "$status" ;; esac
    else
        exit "$status"
    fi
done
