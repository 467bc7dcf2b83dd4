#!/usr/bin/env bash
# The official client libraries against `orch serve`: makes a virtual environment with exactly what requirements.txt
# says, builds what is needed, and runs the tests. Needs Python 3 with venv.
#
#   run.sh --install   first install what is missing of that, with apt-get
set -euo pipefail

if [[ ${1:-} == --install ]] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
fi

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

# One environment per list of requirements and Python, kept between runs.
key=$({ cat "$here/requirements.txt"; python3 --version; } | sha256sum | cut -c1-16)
environment=${XDG_CACHE_HOME:-$HOME/.cache}/orch-ci/clients-$key
if [[ ! -e $environment/complete ]]; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    touch "$environment/complete"
fi

# The whole workspace, so that nothing is built with other features than the rest.
cargo build --workspace --bins --examples --manifest-path "$root/Cargo.toml"

# -B: nothing is written beside the sources.
ORCH=$target/debug/orch PROVIDERS=$target/debug/examples/providers \
    "$environment/bin/python" -B "$here/test_clients.py"
