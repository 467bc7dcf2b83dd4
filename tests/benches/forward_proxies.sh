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
#   (`tests/examples/bare_forwarder.rs`), plain and with TLS towards the upstream.
# - Latency at 30 % of the rate that was reached, beside the same load without a proxy and through hyper alone.
# - Bytes per second through CONNECT, beside HAProxy in TCP mode.
# - Memory of the process with 10,000 idle tunnels.
#
# Builds the release profile, unless ORCH, PROXY_LOAD and BARE_FORWARDER name programs that are built already.
set -euo pipefail

rounds=${1:-7}
seconds=${2:-4}
connections=16
tunnels=10000

needed=(squid tinyproxy haproxy)
source "$(dirname "$0")/stage.sh"
# Each has two descriptors in the proxy.
if [[ $(ulimit -n) != unlimited ]] && ((2 * tunnels + 200 > $(ulimit -n))); then
    tunnels=$((($(ulimit -n) - 200) / 2))
    echo "no more than $(ulimit -n) open files: $tunnels tunnels instead of 10,000" >&2
fi

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
begin "$work/bare_tls" "$bare_forwarder" "127.0.0.1:$tls" "$(nproc)" "$name" "$work/ca.pem"
bare_tls=${started[-1]}
bare_tls_address=$(<"$work/bare_tls")

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
median() {
    sort -n "$1" | awk '{ row[NR] = $0 } END { print row[int((NR + 1) / 2)] }'
}
loads=(direct squid tinyproxy haproxy_http bare bare_tls orch_plain orch_injecting)
load_direct() { wrk_load "$(<"$work/nginx.pid")" "127.0.0.1:$plain" /1k; }
load_squid() { wrk_load "$squid" "127.0.0.1:$squid_port" "http://127.0.0.1:$plain/1k"; }
load_tinyproxy() { wrk_load "$tinyproxy" "127.0.0.1:$tinyproxy_port" "http://127.0.0.1:$plain/1k"; }
# Which refuses a Host that is not that of the target.
load_haproxy_http() {
    wrk_load "$haproxy_http" "127.0.0.1:$haproxy_http_port" "http://127.0.0.1:$plain/1k" "Host:127.0.0.1:$plain"
}
load_bare() { wrk_load "$bare" "$bare_address" "http://127.0.0.1:$plain/1k"; }
load_bare_tls() { wrk_load "$bare_tls" "$bare_tls_address" "http://$name/1k" "Host:$name" "Authorization:Bearer $placeholder"; }
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
beside() {
    awk -v own="$(rate "$1")" -v bare="$(rate "$2")" -v squid="$(rate squid)" -v tiny="$(rate tinyproxy)" -v name="$1" \
        'BEGIN { printf "%s: %.2f x squid (asked 5), %.2f x tinyproxy (asked 8), %.2f x bare hyper (asked 0.5)\n",
            name, own / squid, own / tiny, own / bare }'
}
beside orch_plain bare
# What is sent over TLS is measured beside what is sent over TLS.
beside orch_injecting bare_tls

third=$(awk -v rate="$(rate orch_injecting)" 'BEGIN { print int(rate * 0.3) }')
for ((round = 1; round <= 3; round++)); do
    echo "at $third req/s, direct: $("$proxy_load" paced "127.0.0.1:$plain" "http://127.0.0.1:$plain/1k" "$third" "$seconds" "$connections")"
    echo "at $third req/s, bare:   $("$proxy_load" paced "$bare_tls_address" "http://$name/1k" "$third" "$seconds" "$connections" \
        "authorization:Bearer $placeholder")"
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

before=$(memory "$proxy")
begin "$work/hold.json" "$proxy_load" hold "$orch_address" "$tunnels" still.example:443 "$credentials"
sleep 1
echo "idle tunnels: $(jq .open "$work/hold.json"), memory $before -> $(memory "$proxy") MiB (asked 300)"
