#!/usr/bin/env bash
# Hostile programs in C, compiled by another toolchain than the other guests, against the built `orch`: each is stopped
# by the limit that it attacks, and a run beside it on the same server is not.
#
#   run.sh --install   first install what is missing, with apt-get; the compiler (zig) comes from PyPI either way
set -euo pipefail

zig_version=0.17.1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orch-ci

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    if [[ ${1:-} != --install ]]; then
        echo "missing: python3 python3-venv (run.sh --install installs them)" >&2
        exit 1
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends ca-certificates python3 python3-venv >/dev/null
fi
environment=$cache/zig-$zig_version
if [[ ! -e $environment/complete ]]; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "ziglang==$zig_version"
    touch "$environment/complete"
fi

cd "$root"
cargo build --quiet --package orch
orch=$target/debug/orch
work=$(mktemp -d)
server=
finish() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
export ORCH_HOME=$work/home ZIG_GLOBAL_CACHE_DIR=$work/zig

# name of the program, its limits, the exit code, what has to be said
attacks=(
    "hoard|{ memory: 32MiB }|6|reached its memory limit"
    "burrow|{ memory: 32MiB }|1|trapped"
    "whirl|{ cpu: 500ms }|6|reached its cpu limit"
)
agent() {
    local name=$1 limits=$2
    mkdir -p "$work/$name"
    "$environment/bin/python" -m ziglang cc --target=wasm32-wasi -O1 -o "$work/$name/agent.wasm" "$here/$name.c"
    printf 'name: test/%s\nversion: 1.0.0\nmodule: agent.wasm\nsupported_providers: [any]\nlimits: %s\n' \
        "$name" "$limits" >"$work/$name/orch.yaml"
}

"$orch" serve --listen 127.0.0.1:0 2>"$work/server.log" &
server=$!
for _ in $(seq 100); do
    grep -q 'listening on' "$work/server.log" && break
    kill -0 "$server"
    sleep 0.1
done

passed=0 failed=0
for attack in "${attacks[@]}"; do
    IFS='|' read -r name limits code says <<<"$attack"
    agent "$name" "$limits"
    # A neighbour on the same server, begun first and ended last.
    "$orch" run orch/summarizer --simulate --input '{"text":"Rain fell. Ships waited."}' >"$work/neighbour" 2>&1 &
    neighbour=$!
    status=0
    "$orch" run "$work/$name" --simulate --input '{}' >"$work/out" 2>&1 || status=$?
    beside=0
    wait "$neighbour" || beside=$?
    if [[ $status == "$code" && $beside == 0 ]] && grep -q "$says" "$work/out"; then
        passed=$((passed + 1))
        echo "test $name ... ok"
    else
        failed=$((failed + 1))
        echo "test $name ... FAILED: exit code $status instead of $code, the neighbour's $beside"
        sed 's/^/    /' "$work/out" "$work/neighbour"
    fi
done
if ((failed)); then result=FAILED; else result=ok; fi
echo "test result: $result. $passed passed; $failed failed; 0 ignored"
exit $((failed > 0))
