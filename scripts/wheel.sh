# Sourced by scripts/prose.sh and scripts/deny.sh.

# fetch_wheel TOOL REQUIREMENT SHA256 puts a tool on this script's PATH unless it is installed, for
# example `fetch_wheel typos typos==1.52.0 418f..`. Fails if the tool can't be fetched.
fetch_wheel() {
    command -v "$1" >/dev/null && return
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    echo "$2 --hash=sha256:$3" >"$tools/requirements.txt"
    python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install --quiet \
        --disable-pip-version-check --no-deps --require-hashes -r "$tools/requirements.txt" || return
    export PATH="$tools/venv/bin:$PATH"
}
