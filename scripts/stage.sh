# Sourced. `stage NAME COMMAND ..` runs the command, prints the minutes it took and returns its exit
# status; STAGE_MINUTES collects the minutes across scripts that call each other.
stage() {
    local name=$1 start=$SECONDS status=0 minutes
    shift
    "$@" || status=$?
    minutes=$(awk -v seconds=$((SECONDS - start)) 'BEGIN { printf "%.1f", seconds / 60 }')
    echo "== $name: $minutes min"
    export STAGE_MINUTES="${STAGE_MINUTES:+$STAGE_MINUTES, }$name $minutes"
    return "$status"
}
