#!/usr/bin/env bash
# Makes summarizer.wasm of app.py, in an environment of its own for what requirements.txt says. PYTHON names an interpreter
# that has it already.
#
#   build.sh [OUT [FOLDER MODULE]]   OUT of the Python module MODULE in FOLDER instead
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
sdk=$here/../../sdk
python=${PYTHON:-}
if [[ -z $python ]]; then
    python=$here/.venv/bin/python
    [[ -x $python ]] || python3 -m venv "$here/.venv"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
fi
"$(dirname "$python")/componentize-py" --quiet --wit-path "$sdk/wit" --world agent componentize \
    --python-path "${2:-$here}" --python-path "$sdk/python" --output "${1:-$here/summarizer.wasm}" "${3:-app}"
