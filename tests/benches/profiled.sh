#!/usr/bin/env bash
# Builds `orch` twice: once so that it notes which of its code works and how often while it serves models to clients, and once
# with those notes, by which the compiler lays the code out (profile-guided optimisation). What works lies together then, and
# a request passes through fewer cache lines. Prints the path of the second `orch`.
#
#   tests/benches/profiled.sh
#
# Not part of CI: two release builds. Needs jq, and llvm-profdata of the compiler's LLVM: `rustup component add llvm-tools`,
# or a distribution's llvm package of that version.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
built=$target/profiled
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

profdata=
for tool in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "llvm-profdata-$llvm" llvm-profdata; do
    if "$tool" --version 2>/dev/null | grep -q "version $llvm\."; then
        profdata=$tool
        break
    fi
done
if [[ -z $profdata ]]; then
    echo "llvm-profdata $llvm is not installed: rustup component add llvm-tools, or your distribution's llvm-$llvm" >&2
    exit 1
fi
command -v jq >/dev/null || { echo "jq is not installed" >&2; exit 1; }

source "$(dirname "$0")/processes.sh"

# With a target, the flags are for orch alone and not for what builds it.
build() {
    RUSTFLAGS=$1 CARGO_TARGET_DIR=$built cargo build --release --locked --bin orch --target "$host" \
        --manifest-path "$root/Cargo.toml" >&2
}
rm -rf "$built/notes"
build "-Cprofile-generate=$built/notes"
cp "$built/$host/release/orch" "$work/orch"
cargo build --release --locked --package orch-tests --example llm_load --manifest-path "$root/Cargo.toml" >&2
llm_load=$target/release/examples/llm_load

# Whole answers and streams, of the dialect that is asked in and of another one.
begin "$work/upstream" "$llm_load" upstream
upstream=$(head -n 1 "$work/upstream")
begin "$work/dripping" "$llm_load" upstream 40 50
dripping=$(head -n 1 "$work/dripping")
for provider in "$upstream" "$dripping"; do
    export ORCH_HOME=$work/home.$provider
    mkdir -m 700 "$ORCH_HOME"
    (umask 077 && cat >"$ORCH_HOME/config.yaml" <<EOF
{"providers": {"openai": {"base_url": "http://$provider/v1"}, "anthropic": {"base_url": "http://$provider"}}}
EOF
    )
    echo -n sk-bench-0123456789abcdef0123456789 | "$work/orch" secrets set OPENAI_API_KEY - 2>/dev/null
    echo -n sk-ant-bench-0123456789abcdef01234 | "$work/orch" secrets set ANTHROPIC_API_KEY - 2>/dev/null
    begin "$work/orch.$provider" "$work/orch" serve --json --listen 127.0.0.1:0
    serving=${started[-1]}
    url=$(jq -r .url <(head -n 1 "$work/orch.$provider"))/v1/chat/completions
    bearer="authorization:Bearer $(<"$ORCH_HOME/data/admin-token")"
    for model in gpt-4o-mini claude-sonnet-4-5; do
        export LLM_MODEL=$model
        if [[ $provider == "$upstream" ]]; then
            "$llm_load" run "$url" 6 16 "$bearer" >&2
            "$llm_load" first "$url" 200 4 16 "$bearer" >&2
        else
            "$llm_load" streams "$url" 100 "$bearer" >&2
        fi
    done
    # Notes are written at the end of a process that ends by itself.
    kill -TERM "$serving"
    wait "$serving" || true
done
# Agents are compiled and run in jails, where nothing is noted. Sparse notes leave out what was not at work, so that it is
# built as ever and not as something rare.
"$profdata" merge --sparse --output "$built/orch.profdata" "$built/notes"

build "-Cprofile-use=$built/orch.profdata"
echo "$built/$host/release/orch"
