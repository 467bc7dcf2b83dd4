#!/usr/bin/env bash
# Requests per second of `orch serve` and of Portkey's gateway, side by side on this machine: the same load (one small
# chat completion after another on 16 kept connections), the same fake provider on loopback over plain HTTP, rounds
# that take turns. Not part of CI. Needs Node.js with npm, and the network to install Portkey once.
#
#   tests/benches/portkey.sh [ROUNDS [SECONDS]]
#
# Builds the release profile, unless ORCH and LLM_LOAD name an `orch` and an `llm_load` that are built already.
set -euo pipefail

rounds=${1:-5}
seconds=${2:-8}
connections=16
portkey_version=1.15.2

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$(mktemp -d)
started=()
finish() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}
trap finish EXIT

# Waits until a file has a line, and prints the first one. Its writer must be alive.
first_line() {
    local file=$1 process=$2
    while [[ ! -s $file ]]; do
        kill -0 "$process" || { echo "it ended and said nothing: $file" >&2; return 1; }
        sleep 0.1
    done
    head -n 1 "$file"
}

portkey=${XDG_CACHE_HOME:-$HOME/.cache}/orch-bench/portkey-$portkey_version
if [[ ! -e $portkey/complete ]]; then
    mkdir -p "$portkey"
    npm install --silent --no-audit --no-fund --prefix "$portkey" "@portkey-ai/gateway@$portkey_version"
    touch "$portkey/complete"
fi

if [[ -z ${ORCH:-} || -z ${LLM_LOAD:-} ]]; then
    cargo build --release --bin orch --manifest-path "$root/Cargo.toml"
    cargo build --release --package orch-tests --example llm_load --manifest-path "$root/Cargo.toml"
fi
orch=${ORCH:-$target/release/orch}
llm_load=${LLM_LOAD:-$target/release/examples/llm_load}

mkfifo "$work/open"
exec 3<>"$work/open"
"$llm_load" upstream <&3 >"$work/upstream" &
started+=($!)
upstream=$(first_line "$work/upstream" "${started[-1]}")

export ORCH_HOME=$work/orch
mkdir -m 700 "$ORCH_HOME"
(umask 077 && echo "{\"providers\": {\"openai\": {\"base_url\": \"http://$upstream/v1\"}}}" >"$ORCH_HOME/config.yaml")
echo -n sk-bench-0123456789abcdef0123456789 | "$orch" secrets set OPENAI_API_KEY - 2>/dev/null
"$orch" serve --json --listen 127.0.0.1:0 <&3 >"$work/orch.json" 2>"$work/orch.log" &
started+=($!)
url=$(first_line "$work/orch.json" "${started[-1]}" | sed -E 's/.*"url": ?"([^"]*)".*/\1/')
token=$(<"$ORCH_HOME/data/admin-token")

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
node "$portkey/node_modules/@portkey-ai/gateway/build/start-server.js" --headless "--port=$port" \
    <&3 >"$work/portkey.log" 2>&1 &
started+=($!)

orch_load() {
    "$llm_load" run "$url/v1/chat/completions" "$1" "$connections" "authorization:Bearer $token"
}
portkey_load() {
    "$llm_load" run "http://127.0.0.1:$port/v1/chat/completions" "$1" "$connections" \
        "authorization:Bearer sk-bench" "x-portkey-provider:openai" "x-portkey-custom-host:http://$upstream/v1"
}
until portkey_load 0.1 >/dev/null 2>&1; do
    kill -0 "${started[-1]}" || { cat "$work/portkey.log" >&2; exit 1; }
    sleep 0.2
done
orch_load 1 >/dev/null
portkey_load 1 >/dev/null

echo "$(nproc) cores; $connections connections; $rounds rounds of $seconds s each; Portkey $portkey_version"
for ((round = 1; round <= rounds; round++)); do
    orch_load "$seconds" >>"$work/orch.results"
    portkey_load "$seconds" >>"$work/portkey.results"
    echo "round $round: orch $(tail -n 1 "$work/orch.results") portkey $(tail -n 1 "$work/portkey.results")"
done
node - "$work/orch.results" "$work/portkey.results" <<'JS'
const { readFileSync } = require("fs");
const median = (file) => {
  const rates = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line).per_second);
  return rates.sort((a, b) => a - b)[Math.floor(rates.length / 2)];
};
const [orch, portkey] = process.argv.slice(2).map(median);
console.log(`median: orch ${orch.toFixed(0)} req/s, portkey ${portkey.toFixed(0)} req/s, ratio ${(orch / portkey).toFixed(1)}`);
JS
