#!/usr/bin/env bash
# Programs that know nothing of `orch`: the official client libraries against `orch serve`; curl, Python's requests,
# Node's fetch and git through `orch proxy`. Makes a virtual environment with exactly what requirements.txt says, builds
# what is needed, and runs the tests. Needs Python 3 with venv, curl, git and Node.
#
#   run.sh --install   first install what is missing of that, with apt-get
set -euo pipefail

missing=()
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
for program in curl git; do
    command -v "$program" >/dev/null || missing+=("$program")
done
{ command -v node && command -v npm; } >/dev/null || missing+=(nodejs npm)
if [[ ${1:-} == --install && ${#missing[@]} -gt 0 ]]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends ca-certificates "${missing[@]}" >/dev/null
    missing=()
fi
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "missing: ${missing[*]} (run.sh --install installs them)" >&2
    exit 1
fi

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orch-ci

# One environment per list of requirements and Python, kept between runs.
key=$({ cat "$here/requirements.txt"; python3 --version; } | sha256sum | cut -c1-16)
environment=$cache/clients-$key
if [[ ! -e $environment/complete ]]; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    touch "$environment/complete"
fi

# Node's own fetch knows proxies from 22.21 and 24.5 on. An older Node gets the same client from npm.
undici_version=6.29.1
NODE=$(command -v node)
UNDICI=
if "$NODE" --use-env-proxy -e 0 2>/dev/null; then
    echo "node $("$NODE" --version): its own fetch"
else
    echo "node $("$NODE" --version) has no --use-env-proxy: undici $undici_version from npm in its place"
    UNDICI=$cache/undici-$undici_version/node_modules/undici
    [[ -e $UNDICI/package.json ]] ||
        npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache/undici-$undici_version" \
            "undici@$undici_version"
fi

# OpenAI's library for Node, and exactly this one.
openai_version=6.49.0
OPENAI_FOR_NODE=$cache/openai-$openai_version/node_modules/openai
[[ -e $OPENAI_FOR_NODE/package.json ]] ||
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache/openai-$openai_version" \
        "openai@$openai_version"

# The whole workspace, so that nothing is built with other features than the rest.
cargo build --workspace --bins --examples --manifest-path "$root/Cargo.toml"

# -B: nothing is written beside the sources.
ORCH=$target/debug/orch PROVIDERS=$target/debug/examples/providers NODE=$NODE \
    OPENAI_FOR_NODE=$OPENAI_FOR_NODE "$environment/bin/python" -B "$here/test_clients.py"
ORCH=$target/debug/orch ORIGINS=$target/debug/examples/origins NODE=$NODE UNDICI=$UNDICI \
    "$environment/bin/python" -B "$here/test_proxy.py"
