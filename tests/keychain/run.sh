#!/usr/bin/env bash
# The keychain slot against a real Secret Service: gnome-keyring, on a bus of its own, in a home of its own. Nothing of
# the session that this runs in is touched. Fails when anything that it needs is missing.
#
#   run.sh --install   first install what is missing of that, with apt-get
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

if [[ ${1:-} == --install ]] && ! { command -v dbus-run-session && command -v gnome-keyring-daemon; } >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends dbus gnome-keyring >/dev/null
fi
for needed in dbus-run-session gnome-keyring-daemon python3; do
    command -v "$needed" >/dev/null || { echo "$needed is missing; run.sh --install installs it" >&2; exit 1; }
done

# The whole workspace, so that nothing is built with other features than the rest.
[[ -n ${ORCH:-} ]] || cargo build --workspace --bins --manifest-path "$root/Cargo.toml"
ORCH=${ORCH:-${CARGO_TARGET_DIR:-$root/target}/debug/orch}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -m 700 "$scratch/runtime" "$scratch/home"
env -i PATH="$PATH" HOME="$scratch/home" XDG_RUNTIME_DIR="$scratch/runtime" ORCH_HOME="$scratch/orch" ORCH="$ORCH" \
    timeout 300 dbus-run-session -- "$here/session.sh"
