#!/usr/bin/env bash
# `orch proxy` beside squid, tinyproxy and HAProxy on this machine: the same load, the same upstream on loopback, rounds
# that take turns. Not part of CI. Needs squid, tinyproxy, haproxy, nginx, wrk, openssl and jq (Debian's packages squid,
# tinyproxy-bin, haproxy, nginx-light, wrk, openssl, jq).
#
#   tests/benches/forward_proxies.sh [ROUNDS [SECONDS]]
#
# - Requests per second with absolute-form requests on 16 kept connections, and the proxy's CPU time for each.
#   `orch` is measured twice: passing plain HTTP on like the others, and doing what it is for: it upgrades the
#   request to TLS, swaps a placeholder for its secret, and searches the answer for it. Two that are not asked for say
#   how fast a forward proxy can be here at all: HAProxy in HTTP mode, and nothing but hyper on both sides
#   (`tests/examples/bare_forwarder.rs`).
# - Latency at 30 % of the rate that was reached, beside the same load without a proxy.
# - Bytes per second through CONNECT, beside HAProxy in TCP mode.
# - Memory of the process with 10,000 idle tunnels.
#
# Builds the release profile, unless ORCH, PROXY_LOAD and BARE_FORWARDER name programs that are built already.
set -euo pipefail

rounds=${1:-7}
seconds=${2:-4}
connections=16
tunnels=10000
name=bench.example

for tool in squid tinyproxy haproxy nginx wrk openssl jq; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
PATH=$PATH:/usr/sbin
ulimit -n "$(ulimit -Hn)"
# Each has two descriptors in the proxy.
if [[ $(ulimit -n) != unlimited ]] && ((2 * tunnels + 200 > $(ulimit -n))); then
    tunnels=$((($(ulimit -n) - 200) / 2))
    echo "no more than $(ulimit -n) open files: $tunnels tunnels instead of 10,000" >&2
fi

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
if [[ -z ${ORCH:-} || -z ${PROXY_LOAD:-} || -z ${BARE_FORWARDER:-} ]]; then
    cargo build --release --bin orch --manifest-path "$root/Cargo.toml"
    cargo build --release --package orch-tests --example proxy_load --example bare_forwarder \
        --manifest-path "$root/Cargo.toml"
fi
orch=${ORCH:-$target/release/orch}
proxy_load=${PROXY_LOAD:-$target/release/examples/proxy_load}
bare_forwarder=${BARE_FORWARDER:-$target/release/examples/bare_forwarder}

work=$(mktemp -d)
chmod 755 "$work"
started=()
finish() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}
trap finish EXIT

mkfifo "$work/open"
exec 3<>"$work/open"

# Starts a process that prints its first line when it is ready, and prints that.
begin() {
    local out=$1
    shift
    "$@" <&3 >"$out" 2>"$out.log" &
    started+=($!)
    while [[ ! -s $out ]]; do
        kill -0 "${started[-1]}" || { cat "$out.log" >&2; return 1; }
        sleep 0.1
    done
}
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
# Waits until the process that was started last listens on a port.
listening() {
    until (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        kill -0 "${started[-1]}" || { echo "what should listen on port $1 ended" >&2; return 1; }
        sleep 0.1
    done
}

# The upstream: one kibibyte, plain and over TLS.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=bench" \
    -addext "basicConstraints=critical,CA:TRUE" -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
    -keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
    -extfile <(printf 'subjectAltName=DNS:%s' "$name") -out "$work/server.pem" 2>/dev/null
plain=$(free_port)
tls=$(free_port)
mkdir "$work/www"
head -c 768 /dev/zero | base64 -w 0 >"$work/www/1k"
cat >"$work/nginx.conf" <<EOF
daemon off; pid $work/nginx.pid; error_log $work/nginx.log; worker_processes 1;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 100000000; keepalive_timeout 600; root $work/www;
    client_body_temp_path $work/n1; proxy_temp_path $work/n2; fastcgi_temp_path $work/n3; uwsgi_temp_path $work/n4; scgi_temp_path $work/n5;
    open_file_cache max=10;
    server { listen 127.0.0.1:$plain; }
    server { listen 127.0.0.1:$tls ssl; ssl_certificate $work/server.pem; ssl_certificate_key $work/server.key; }
}
EOF
nginx -c "$work/nginx.conf" 2>/dev/null &
started+=($!)
listening "$plain"

squid_port=$(free_port)
cat >"$work/squid.conf" <<EOF
http_port 127.0.0.1:$squid_port
acl allowed dst 127.0.0.1
http_access allow allowed
http_access deny all
cache deny all
cache_mem 8 MB
access_log none
cache_log $work/squid/log
pid_filename none
coredump_dir $work/squid
pinger_enable off
memory_cache_shared off
shutdown_lifetime 0 seconds
EOF
# Started by root, it becomes a user of its own.
mkdir -m 777 "$work/squid"
squid -N -n "bench$$" -d1 -f "$work/squid.conf" >"$work/squid.out" 2>&1 &
started+=($!)
squid=$!
listening "$squid_port"

tinyproxy_port=$(free_port)
printf '%s\n' "^127\.0\.0\.1$" >"$work/tinyproxy.filter"
cat >"$work/tinyproxy.conf" <<EOF
Listen 127.0.0.1
Port $tinyproxy_port
Timeout 600
MaxClients 200
LogLevel Critical
Filter "$work/tinyproxy.filter"
FilterDefaultDeny Yes
EOF
tinyproxy -d -c "$work/tinyproxy.conf" >/dev/null 2>&1 &
started+=($!)
tinyproxy=$!
listening "$tinyproxy_port"

begin "$work/blast" "$proxy_load" blast
blast=$(<"$work/blast")
begin "$work/still" "$proxy_load" still
still=$(<"$work/still")

haproxy_port=$(free_port)
cat >"$work/haproxy.cfg" <<EOF
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 5s
    timeout client 600s
    timeout server 600s
listen tunnel
    bind 127.0.0.1:$haproxy_port
    server blast $blast
EOF
haproxy -q -f "$work/haproxy.cfg" &
started+=($!)
haproxy=$!
listening "$haproxy_port"

# As a forward proxy of one place: an absolute target becomes a path.
haproxy_http_port=$(free_port)
cat >"$work/haproxy_http.cfg" <<EOF
global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    http-reuse always
listen forward
    bind 127.0.0.1:$haproxy_http_port
    http-request set-uri %[path]
    server upstream 127.0.0.1:$plain
EOF
haproxy -q -f "$work/haproxy_http.cfg" &
started+=($!)
haproxy_http=$!
listening "$haproxy_http_port"

begin "$work/bare" "$bare_forwarder" "127.0.0.1:$plain" "$(nproc)"
bare=${started[-1]}
bare_address=$(<"$work/bare")

export ORCH_HOME=$work/orch
mkdir -m 700 "$ORCH_HOME"
(umask 077 && cat >"$ORCH_HOME/config.yaml" <<EOF
egress:
  ca_file: $work/ca.pem
  connect_to:
    "$name:80": "127.0.0.1:$plain"
    "plain.example:80": "127.0.0.1:$plain"
    "$name:443": "127.0.0.1:$tls"
    "blast.example:443": "$blast"
    "still.example:443": "$still"
EOF
)
cat >"$work/orch.yaml" <<EOF
module: agent.wasm
name: bench/bench
version: 1.0.0
egress:
  - { host: $name }
  - { host: plain.example, scheme: http, port: 80 }
EOF
echo -n bench-secret-0123456789abcdef0123456789 | "$orch" secrets set BENCH_TOKEN - --host "$name" 2>/dev/null
# shellcheck disable=SC2086
begin "$work/proxy.json" "$orch" proxy --json --listen 127.0.0.1:0 --manifest "$work/orch.yaml" \
    --allow blast.example --allow still.example --allow-opaque blast.example --allow-opaque still.example \
    --max-connections 16384 --secret "BENCH_TOKEN@$name" --env-file "$work/proxy.env" ${ORCH_PROXY_FLAGS:-}
proxy=${started[-1]}
orch_address=$(jq -r .listening "$work/proxy.json" | head -n 1)
credentials=$(sed -nE 's|^HTTPS_PROXY=http://([^@]*)@.*|\1|p' "$work/proxy.env")
placeholder=$(sed -nE 's|^BENCH_TOKEN=(.*)|\1|p' "$work/proxy.env")
basic="Basic $(echo -n "$credentials" | base64 -w 0)"

# Prints the requests per second and the CPU microseconds of a process for each.
wrk_load() {
    local process=$1 address=$2 url=$3 script=$work/load.lua before after out
    shift 3
    {
        echo "wrk.path = \"$url\""
        for header; do echo "wrk.headers[\"${header%%:*}\"] = \"${header#*:}\""; done
    } >"$script"
    before=$(cpu "$process")
    out=$(wrk -t1 -c"$connections" -d"${seconds}s" -s "$script" "http://$address")
    after=$(cpu "$process")
    # tinyproxy ends a connection with its answer, which wrk counts among the reads that failed.
    if grep -q 'Non-2xx\|Socket errors: connect [1-9]\|timeout [1-9]' <<<"$out"; then
        echo "${FUNCNAME[1]}: not all requests were answered as they should be" >&2
        echo "$out" >&2
        return 1
    fi
    awk -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" '
        /requests in/ { count = $1 }
        /Requests\/sec/ { printf "%.0f %.1f\n", $2, ticks / hertz * 1e6 / count }' <<<"$out"
}
cpu() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}
median() {
    sort -n "$1" | awk '{ row[NR] = $0 } END { print row[int((NR + 1) / 2)] }'
}
loads=(direct squid tinyproxy haproxy_http bare orch_plain orch_injecting)
load_direct() { wrk_load "$(<"$work/nginx.pid")" "127.0.0.1:$plain" /1k; }
load_squid() { wrk_load "$squid" "127.0.0.1:$squid_port" "http://127.0.0.1:$plain/1k"; }
load_tinyproxy() { wrk_load "$tinyproxy" "127.0.0.1:$tinyproxy_port" "http://127.0.0.1:$plain/1k"; }
# Which refuses a Host that is not that of the target.
load_haproxy_http() {
    wrk_load "$haproxy_http" "127.0.0.1:$haproxy_http_port" "http://127.0.0.1:$plain/1k" "Host:127.0.0.1:$plain"
}
load_bare() { wrk_load "$bare" "$bare_address" "http://127.0.0.1:$plain/1k"; }
load_orch_plain() { wrk_load "$proxy" "$orch_address" http://plain.example/1k Host:plain.example "Proxy-Authorization:$basic"; }
load_orch_injecting() {
    wrk_load "$proxy" "$orch_address" "http://$name/1k" "Host:$name" "Proxy-Authorization:$basic" "Authorization:Bearer $placeholder"
}

echo "$(nproc) cores; $connections connections; $rounds rounds of $seconds s each; $(squid -v 2>/dev/null | head -n 1)"
for ((round = 1; round <= rounds; round++)); do
    for load in "${loads[@]}"; do
        "load_$load" >>"$work/$load.results"
    done
    for load in "${loads[@]}"; do printf '%s %s  ' "$load" "$(tail -n 1 "$work/$load.results")"; done
    echo
done
for load in "${loads[@]}"; do
    read -r rate each <<<"$(median "$work/$load.results")"
    echo "median: $load $rate req/s, $each CPU µs each"
done
rate() { median "$work/$1.results" | cut -d ' ' -f 1; }
for own in orch_plain orch_injecting; do
    awk -v own="$(rate "$own")" -v squid="$(rate squid)" -v tiny="$(rate tinyproxy)" -v bare="$(rate bare)" -v name="$own" \
        'BEGIN { printf "%s: %.2f x squid (asked 5), %.2f x tinyproxy (asked 8), %.2f x bare hyper (asked 0.5)\n",
            name, own / squid, own / tiny, own / bare }'
done

third=$(awk -v rate="$(rate orch_injecting)" 'BEGIN { print int(rate * 0.3) }')
for ((round = 1; round <= 3; round++)); do
    echo "at $third req/s, direct: $("$proxy_load" paced "127.0.0.1:$plain" "http://127.0.0.1:$plain/1k" "$third" "$seconds" "$connections")"
    echo "at $third req/s, orch:   $("$proxy_load" paced "$orch_address" "http://$name/1k" "$third" "$seconds" "$connections" \
        "proxy-authorization:$basic" "authorization:Bearer $placeholder")"
done

through() {
    local process=$1 result=$2 before after bytes
    shift 2
    before=$(cpu "$process")
    bytes=$("$proxy_load" pull "$@" | jq .bytes_per_second)
    after=$(cpu "$process")
    awk -v bytes="$bytes" -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" -v seconds="$seconds" \
        'BEGIN { printf "%.0f %.2f\n", bytes / 1e6, ticks / hertz / (bytes * seconds / 1e9) }' >>"$result"
}
for ((round = 1; round <= rounds; round++)); do
    through "$haproxy" "$work/haproxy.results" "127.0.0.1:$haproxy_port" "$seconds" 4
    through "$proxy" "$work/connect.results" "$orch_address" "$seconds" 4 blast.example:443 "$credentials"
    echo "CONNECT: haproxy $(tail -n 1 "$work/haproxy.results")  orch $(tail -n 1 "$work/connect.results") (MB/s, CPU s per GB)"
done
awk -v own="$(rate connect)" -v other="$(rate haproxy)" \
    'BEGIN { printf "median: orch %.0f MB/s, haproxy %.0f MB/s, ratio %.2f (asked 0.9)\n", own, other, own / other }'

memory() { awk '/^VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$proxy/status"; }
before=$(memory)
begin "$work/hold.json" "$proxy_load" hold "$orch_address" "$tunnels" still.example:443 "$credentials"
sleep 1
echo "idle tunnels: $(jq .open "$work/hold.json"), memory $before -> $(memory) MiB (asked 300)"
