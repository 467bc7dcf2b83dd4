# What the measurements of `orch proxy` share, to be sourced: an upstream on loopback, plain (`$plain`) and over TLS, the
# proxy with a policy and a secret (`$proxy`, `$orch_address`, `$basic`, `$placeholder`), and how processes are begun and
# ended. `needed` names what else has to be installed.
#
# Builds the release profile, unless ORCH, PROXY_LOAD and BARE_FORWARDER name programs that are built already.

name=bench.example
PATH=$PATH:/usr/sbin
for tool in "${needed[@]}" nginx wrk openssl jq; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
ulimit -n "$(ulimit -Hn)"

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

source "$(dirname "${BASH_SOURCE[0]}")/processes.sh"
chmod 755 "$work"

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

begin "$work/blast" "$proxy_load" blast
blast=$(<"$work/blast")
begin "$work/still" "$proxy_load" still
still=$(<"$work/still")

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

# Ticks of the processor that a process has taken.
cpu() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}
# Its memory, in MiB.
memory() {
    awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"
}
