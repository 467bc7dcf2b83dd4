#!/usr/bin/env bash
# Programs that know nothing of `orch`: the official client libraries against `orch serve`; curl, Python's requests,
# Node's fetch and git through `orch proxy`. Installs exactly what requirements.txt and package-lock.json say, builds what
# is needed, and runs the tests. Needs Python 3 with venv, curl, git and Node.
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
    "$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$here/requirements.txt"
    touch "$environment/complete"
fi

# The same for Node's libraries.
NODE=$(command -v node)
key=$({ cat "$here/package-lock.json"; "$NODE" --version; } | sha256sum | cut -c1-16)
libraries=$cache/clients-node-$key
if [[ ! -e $libraries/complete ]]; then
    rm -rf "$libraries"
    mkdir -p "$libraries"
    cp "$here/package.json" "$here/package-lock.json" "$libraries"
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$libraries"
    touch "$libraries/complete"
fi

# Node's own fetch knows proxies from 22.21 and 24.5 on. For an older Node the same client is among the libraries.
UNDICI=
if "$NODE" --use-env-proxy -e 0 2>/dev/null; then
    echo "node $("$NODE" --version): its own fetch"
else
    echo "node $("$NODE" --version) has no --use-env-proxy: undici from npm in its place"
    UNDICI=$libraries/node_modules/undici
fi

# The whole workspace, so that nothing is built with other features than the rest.
cargo build --workspace --bins --examples --manifest-path "$root/Cargo.toml"

# -B: nothing is written beside the sources. Each says in the end how many tests there were; all of them run.
failed=0
test() {
    ORCH=$target/debug/orch PROVIDERS=$target/debug/examples/providers ORIGINS=$target/debug/examples/origins \
        NODE=$NODE NODE_LIBRARIES=$libraries UNDICI=$UNDICI "$environment/bin/python" -B "$here/$1" || failed=1
}
test test_table.py
test test_clients.py
test test_proxy.py
exit "$failed"
