#!/usr/bin/env bash
# `orch serve` as an LLM gateway, beside Portkey's gateway, LiteLLM's proxy and no gateway at all, on this machine: the same
# load, the same fake provider on loopback over plain HTTP, rounds that take turns, all of orch's accounting on. Not part of
# CI. Needs jq, Node.js with npm and Python with venv, and the network to install the two peers once.
#
#   tests/benches/gateways.sh [ROUNDS [SECONDS]]
#
# Builds the release profile, unless ORCH and LLM_LOAD name an `orch` and an `llm_load` that are built already, such as the
# one of `profiled.sh`. It says of each figure whether it meets its target, and fails if one does not.
set -euo pipefail

rounds=${1:-7}
seconds=${2:-5}
connections=16
portkey_version=1.15.2
litellm_version=1.108.7

for tool in jq node npm python3; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
ulimit -n "$(ulimit -Hn)"
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
source "$(dirname "$0")/processes.sh"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/orch-bench
portkey=$cache/portkey-$portkey_version
if [[ ! -e $portkey/complete ]]; then
    mkdir -p "$portkey"
    npm install --silent --no-audit --no-fund --prefix "$portkey" "@portkey-ai/gateway@$portkey_version"
    touch "$portkey/complete"
fi
litellm=$cache/litellm-$litellm_version
if [[ ! -e $litellm/complete ]]; then
    python3 -m venv "$litellm"
    "$litellm/bin/pip" install --quiet --disable-pip-version-check "litellm[proxy]==$litellm_version"
    touch "$litellm/complete"
fi
if [[ -z ${ORCH:-} || -z ${LLM_LOAD:-} ]]; then
    cargo build --release --bin orch --manifest-path "$root/Cargo.toml"
    cargo build --release --package orch-tests --example llm_load --manifest-path "$root/Cargo.toml"
fi
orch=${ORCH:-$target/release/orch}
llm_load=${LLM_LOAD:-$target/release/examples/llm_load}

# Waits until a load through the process that was started last is answered.
answering() {
    until "$@" >/dev/null 2>&1; do
        kill -0 "${started[-1]}" || { tail -n 20 "$work/$1.log" >&2; return 1; }
        sleep 0.3
    done
}

# Two providers: one that answers at once, and one whose chunks come one by one, each alone.
begin "$work/upstream" "$llm_load" upstream
upstream=$(head -n 1 "$work/upstream")
begin "$work/upstream.dripping" "$llm_load" upstream 200 50
dripping=$(head -n 1 "$work/upstream.dripping")
begin "$work/upstream.minute" "$llm_load" upstream 12 5000
minute=$(head -n 1 "$work/upstream.minute")
begin "$work/relay" "$llm_load" relay "$upstream"
relay=$(head -n 1 "$work/relay")
begin "$work/relay.dripping" "$llm_load" relay "$dripping"
relay_dripping=$(head -n 1 "$work/relay.dripping")
relay_process=${started[-1]}

# orch, and another one whose provider is slow.
token=
process=
url=
serve() {
    local home=$work/$1 provider=$2 budgets=${3:-}
    mkdir -m 700 "$home"
    (umask 077 && cat >"$home/config.yaml" <<EOF
{"server": {"max_connections": 6000, "max_connections_per_peer": 6000},
 "providers": {"openai": {"base_url": "http://$provider/v1"}, "anthropic": {"base_url": "http://$provider"}}$budgets}
EOF
    )
    export ORCH_HOME=$home
    echo -n sk-bench-0123456789abcdef0123456789 | "$orch" secrets set OPENAI_API_KEY - 2>/dev/null
    echo -n sk-ant-bench-0123456789abcdef01234 | "$orch" secrets set ANTHROPIC_API_KEY - 2>/dev/null
    begin "$home.json" "$orch" serve --json --listen 127.0.0.1:0
    process=${started[-1]}
    url=$(jq -r .url <(head -n 1 "$home.json"))
    token=$(<"$home/data/admin-token")
}

load() {
    local mode=$1 path=$2
    shift 2
    "$llm_load" "$mode" "$url/v1/$path" "$@" "authorization:Bearer $token"
}
direct() {
    local mode=$1
    shift
    "$llm_load" "$mode" "http://$upstream/v1/chat/completions" "$@"
}
relayed() {
    local mode=$1
    shift
    "$llm_load" "$mode" "http://$relay/v1/chat/completions" "$@"
}
failed=0
# A figure, its target, and what is wanted of them: `le` or `ge`.
judge() {
    local name=$1 value=$2 how=$3 wanted=$4 unit=$5 said=met
    if ! jq -en --argjson value "$value" --argjson wanted "$wanted" \
        "if \"$how\" == \"le\" then \$value <= \$wanted else \$value >= \$wanted end" >/dev/null; then
        said=MISSED
        failed=1
    fi
    printf '%-58s %10.1f %-6s %s %s: %s\n' "$name" "$value" "$unit" "$([[ $how == le ]] && echo '<=' || echo '>=')" "$wanted" "$said"
}
# The median of a field over lines of JSON.
median() {
    jq -s "map(.$1) | sort | .[length / 2 | floor]" "$2"
}
ticks() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}

serve orch "$upstream"
fast_url=$url fast_token=$token
serve budgeted "$upstream" ', "budgets": {"all": {"window": "day", "tokens": 1000000000000}}'
budgeted_url=$url budgeted_token=$token

port=$(free_port)
node "$portkey/node_modules/@portkey-ai/gateway/build/start-server.js" --headless "--port=$port" \
    <&3 >"$work/portkey_load.log" 2>&1 &
started+=($!)
portkey_load() {
    "$llm_load" run "http://127.0.0.1:$port/v1/chat/completions" "$1" "$connections" \
        "authorization:Bearer sk-bench" "x-portkey-provider:openai" "x-portkey-custom-host:http://$upstream/v1"
}
answering portkey_load 0.1

litellm_port=$(free_port)
cat >"$work/litellm.yaml" <<EOF
model_list:
  - model_name: gpt-4o-mini
    litellm_params: { model: openai/gpt-4o-mini, api_base: "http://$upstream/v1", api_key: sk-bench }
litellm_settings: { drop_params: true, telemetry: false }
EOF
litellm_key=sk-bench-0123456789abcdef0123456789abcdef
LITELLM_MASTER_KEY=$litellm_key LITELLM_LOG=ERROR LITELLM_LOCAL_MODEL_COST_MAP=True NO_COLOR=1 \
    "$litellm/bin/litellm" --config "$work/litellm.yaml" --host 127.0.0.1 --port "$litellm_port" \
    --num_workers "$(nproc)" <&3 >"$work/litellm_load.log" 2>&1 &
started+=($!)
litellm_load() {
    "$llm_load" run "http://127.0.0.1:$litellm_port/v1/chat/completions" "$1" "$connections" \
        "authorization:Bearer $litellm_key"
}
answering litellm_load 0.1

echo "$(nproc) cores; $connections connections; $rounds rounds of $seconds s each; Portkey $portkey_version, LiteLLM $litellm_version with $(nproc) workers"
url=$fast_url token=$fast_token
load run chat/completions 1 "$connections" >/dev/null
portkey_load 1 >/dev/null
litellm_load 1 >/dev/null
for ((round = 1; round <= rounds; round++)); do
    url=$fast_url token=$fast_token
    load run chat/completions "$seconds" "$connections" >>"$work/orch.rates"
    url=$budgeted_url token=$budgeted_token
    load run chat/completions "$seconds" "$connections" >>"$work/budgeted.rates"
    portkey_load "$seconds" >>"$work/portkey.rates"
    litellm_load "$seconds" >>"$work/litellm.rates"
    relayed run "$seconds" "$connections" >>"$work/relay.rates"
    direct run "$seconds" "$connections" >>"$work/direct.rates"
    for who in direct relay orch budgeted portkey litellm; do
        printf '%s %.0f  ' "$who" "$(tail -n 1 "$work/$who.rates" | jq .per_second)"
    done
    echo "(req/s, round $round)"
done
rate=$(median per_second "$work/orch.rates")
judge "requests per second beside Portkey" "$(jq -n "$rate / $(median per_second "$work/portkey.rates")")" ge 20 x
judge "requests per second beside LiteLLM" "$(jq -n "$rate / $(median per_second "$work/litellm.rates")")" ge 150 x

# At 30 % of that, what is added to the time of an answer without a gateway: the same dialect, and another one.
url=$fast_url token=$fast_token
pace=$(jq -n "$rate * 0.3 | floor")
for ((round = 1; round <= rounds; round++)); do
    direct paced "$pace" "$seconds" "$connections" >>"$work/direct.times"
    relayed paced "$pace" "$seconds" "$connections" >>"$work/relay.times"
    load paced chat/completions "$pace" "$seconds" "$connections" >>"$work/same.times"
    LLM_MODEL=claude-sonnet-4-5 load paced chat/completions "$pace" "$seconds" "$connections" >>"$work/across.times"
    direct first 400 "$seconds" "$connections" >>"$work/direct.first"
    relayed first 400 "$seconds" "$connections" >>"$work/relay.first"
    load first chat/completions 400 "$seconds" "$connections" >>"$work/same.first"
    LLM_MODEL=claude-sonnet-4-5 load first chat/completions 400 "$seconds" "$connections" >>"$work/across.first"
done
added() {
    jq -n "$(median "$2" "$work/$1") - $(median "$2" "$work/direct.${1#*.}")"
}
echo "at $pace requests/s without a gateway: p50 $(median p50_us "$work/direct.times") us, p99 $(median p99_us "$work/direct.times") us; a relay adds $(added relay.times p50_us) us and $(added relay.times p99_us) us"
judge "added to an answer, same dialect, p50" "$(added same.times p50_us)" le 250 us
judge "added to an answer, same dialect, p99" "$(added same.times p99_us)" le 1000 us
judge "added to an answer, across dialects, p50" "$(added across.times p50_us)" le 400 us
judge "added to an answer, across dialects, p99" "$(added across.times p99_us)" le 1000 us
echo "at 400 streams/s without a gateway: first piece p50 $(median p50_us "$work/direct.first") us; a relay adds $(added relay.first p50_us) us"
judge "first piece later, same dialect, p50" "$(added same.first p50_us)" le 500 us
judge "first piece later, across dialects, p50" "$(added across.first p50_us)" le 500 us

# 200 streams of 200 chunks each, one in 50 ms: each chunk comes alone, and what the process takes is of chunks.
per_chunk() {
    jq -n "$1 / $(getconf CLK_TCK) / (200 * 200) * 1000000"
}
before=$(ticks "$relay_process")
"$llm_load" streams "http://$relay_dripping/v1/chat/completions" 200 >/dev/null
after=$(ticks "$relay_process")
printf 'a relay takes %.1f us for a chunk that comes alone\n' "$(per_chunk $((after - before)))"
serve dripping "$dripping"
for model in gpt-4o-mini claude-sonnet-4-5; do
    before=$(ticks "$process")
    LLM_MODEL=$model load streams chat/completions 200 >"$work/dripped"
    after=$(ticks "$process")
    [[ $(jq .finished "$work/dripped") == 200 ]] || { cat "$work/dripped" >&2; exit 1; }
    judge "processor time per chunk that comes alone ($model)" \
        "$(per_chunk $((after - before)))" le 25 us
done

# 5,000 streams at once, of a minute each.
serve minute "$minute"
idle=$(awk '/^VmRSS/ { print $2 }' "/proc/$process/status")
LLM_MODEL=claude-sonnet-4-5 load streams chat/completions 5000 >"$work/streamed"
[[ $(jq .finished "$work/streamed") == 5000 ]] || { cat "$work/streamed" >&2; failed=1; }
peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$process/status")
echo "5,000 streams: $(cat "$work/streamed"); before them $((idle / 1024)) MiB"
judge "memory of 5,000 streams at once (whole process, peak)" "$(jq -n "$peak / 1024")" le 500 MiB
exit "$failed"
