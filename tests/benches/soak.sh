#!/usr/bin/env bash
# Half an hour of `orch proxy` at work, and whether its memory stays flat. Not part of CI. Needs nginx, wrk, openssl, jq
# and curl.
#
#   tests/benches/soak.sh [MINUTES]
#
# Each minute: 300 requests a second that are upgraded to TLS and carry a secret, on 16 connections that are new each
# minute; 200 tunnels that are opened, left idle and dropped; four tunnels that are read as fast as they can be; requests
# that are refused, and uploads that are broken off. Passes if the most that the process takes in the last third is at
# most 5 % above the most that it took in the first, without the first two minutes.
set -euo pipefail

minutes=${1:-30}
needed=(curl)
source "$(dirname "$0")/stage.sh"

mkfifo "$work/held"
aside() {
    local target
    # The tunnels stay for as long as this end of the pipe is open.
    exec 5<>"$work/held"
    "$proxy_load" hold "$orch_address" 200 still.example:443 "$credentials" <&5 >/dev/null &
    local holder=$!
    for ((each = 0; each < 100; each++)); do
        for target in http://refused.example/ "http://$name/%2e%2e%2fx" http://169.254.169.254/latest; do
            curl -s -o /dev/null -x "http://$credentials@$orch_address" "$target"
        done
        # Ends before its body does.
        curl -s -o /dev/null -m 0.05 --limit-rate 1k -T "$work/upload" -x "http://$credentials@$orch_address" "http://$name/up" || true
    done
    "$proxy_load" pull "$orch_address" 0.5 4 blast.example:443 "$credentials" >/dev/null
    kill "$holder"
    wait "$holder" || true
}
head -c 4000000 /dev/zero >"$work/upload"

most_first=0 most_last=0 begun=$(cpu "$proxy")
echo "at the start: $(memory "$proxy") MiB"
for ((minute = 1; minute <= minutes; minute++)); do
    aside &
    beside=$!
    "$proxy_load" paced "$orch_address" "http://$name/1k" 300 57 16 \
        "proxy-authorization:$basic" "authorization:Bearer $placeholder" >"$work/paced"
    wait "$beside"
    now=$(memory "$proxy")
    echo "minute $minute: $now MiB, $(ls "/proc/$proxy/fd" | wc -l) descriptors, p99 $(jq .p99_us "$work/paced") µs"
    if ((minute > 2 && minute <= minutes / 3)); then most_first=$(printf '%s\n' "$most_first" "$now" | sort -n | tail -n 1); fi
    if ((minute > minutes - minutes / 3)); then most_last=$(printf '%s\n' "$most_last" "$now" | sort -n | tail -n 1); fi
done
lines=$(wc -l <"$work/proxy.json.log")
echo "$lines lines of log, $(($(cpu "$proxy") - begun)) ticks of processor time"
awk -v first="$most_first" -v last="$most_last" 'BEGIN {
    flat = first > 0 && last <= first * 1.05
    printf "most in the first third %.1f MiB, in the last %.1f MiB: %s\n", first, last, flat ? "flat" : "NOT FLAT"
    exit !flat
}'
