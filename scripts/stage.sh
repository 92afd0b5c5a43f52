# Sourced. `stage NAME COMMAND ..` runs the command, says how many minutes it took and gives its exit status; STAGE_MINUTES collects them
# over scripts that call each other.
stage() {
    local name=$1 start=$SECONDS status=0 minutes
    shift
    "$@" || status=$?
    minutes=$(awk -v seconds=$((SECONDS - start)) 'BEGIN { printf "%.1f", seconds / 60 }')
    echo "== $name: $minutes min"
    export STAGE_MINUTES="${STAGE_MINUTES:+$STAGE_MINUTES, }$name $minutes"
    return "$status"
}
