#!/usr/bin/env bash
# 10,000 agents at once on this machine, and 1,000, side by side: each in its own sandbox, each reading a streamed model reply
# (a piece every 5 s for a minute, HTTP/2 over TLS, a fake upstream on loopback). Prints memory, processor time, mappings,
# descriptors and delays, and fails where a bound does not hold. What is measured, and how, is in
# tests/examples/agents_at_once/main.rs. Not part of CI: it takes about four minutes and most of two cores.
#
#   tests/benches/ten_thousand.sh [COUNT…]
#
# Builds the release profile, unless ORCH and AGENTS_AT_ONCE name an `orch` and an `agents_at_once` that are built already.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
ulimit -n "$(ulimit -Hn)"
if [[ -z ${ORCH:-} || -z ${AGENTS_AT_ONCE:-} ]]; then
    cargo build --release --bin orch --manifest-path "$root/Cargo.toml"
    cargo build --release --package orch-tests --example agents_at_once --manifest-path "$root/Cargo.toml"
fi
orch=${ORCH:-$target/release/orch}
agents_at_once=${AGENTS_AT_ONCE:-$target/release/examples/agents_at_once}

((${#})) || set -- 1000 10000
echo "$(nproc) processors, $(awk '/MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)," \
    "vm.max_map_count $(cat /proc/sys/vm/max_map_count), open files $(ulimit -n)"
exec "$agents_at_once" "$orch" "$@"
