#!/usr/bin/env bash
# Builds the command tests of wasmtime's WASI suite (`crates/test-programs`, p1_* and p2_*) into components in FOLDER.
#
#   build.sh FOLDER    WASMTIME may name a git directory that has the commit; else it is fetched from GitHub
#
# With Debian's toolchain, like the guests: rustc-web cargo-web rust-web-src lld-22 wasi-libc (examples/build.sh --install).
set -euo pipefail

tag=v48.0.0
commit=f1412a598f96f3c261a19118d94caffcb0c36235
out=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
source=$target/wasi-suite

if [[ ! -e $source/$commit ]]; then
    rm -rf "$source"/crates
    mkdir -p "$source"
    repository=${WASMTIME:-}
    if [[ -z $repository ]]; then
        repository=$source/wasmtime.git
        git clone --quiet --bare --depth 1 --branch "$tag" https://github.com/bytecodealliance/wasmtime "$repository"
    fi
    for part in Cargo.lock crates/test-programs crates/wasi-{http,config,keyvalue,tls,nn}/wit crates/wasi/src/p2/wit \
        crates/wasi-{http,tls}/src/p3/wit; do
        # By tree: snapshots lack large files elsewhere, which `git archive COMMIT PATH` wants to see.
        if [[ $(git --git-dir "$repository" cat-file -t "$commit:$part") == tree ]]; then
            mkdir -p "$source/$part"
            git --git-dir "$repository" archive "$commit:$part" | tar -x -C "$source/$part"
        else
            git --git-dir "$repository" show "$commit:$part" >"$source/$part"
        fi
    done
    # A workspace of the one crate, with what it takes from the whole one.
    {
        printf '[workspace]\nresolver = "2"\nmembers = ["crates/test-programs"]\n[workspace.lints]\n'
        git --git-dir "$repository" show "$commit:Cargo.toml" |
            awk '/^\[/ { on = $0 == "[workspace.package]" } on'
        echo '[workspace.dependencies]'
        git --git-dir "$repository" show "$commit:Cargo.toml" |
            awk '/^\[/ { on = $0 == "[workspace.dependencies]" } on' |
            grep -E "^($(sed -nE 's/^([a-z0-9-]+) = \{ workspace = true.*/\1/p' "$source/crates/test-programs/Cargo.toml" | paste -sd'|')) = "
    } >"$source/Cargo.toml"
    # Agents have no arguments: what the suite gives its programs as such comes in a variable instead.
    cat >>"$source/crates/test-programs/src/lib.rs" <<'END'

pub fn args() -> impl Iterator<Item = String> {
    let args = std::env::var("WASI_TEST_ARGS").unwrap_or_default();
    args.split('\u{1f}').map(str::to_owned).collect::<Vec<_>>().into_iter()
}
END
    grep -lE '\benv::args\(\)' "$source"/crates/test-programs/src/bin/p[12]_*.rs |
        grep -vE '/p2_cli_(args|argv0)\.rs$' |
        xargs sed -i -E 's/\b(std::)?env::args\(\)/test_programs::args()/'
    sed -i 's/wasip2::cli::environment::get_arguments()/test_programs::args().collect::<Vec<_>>()/' \
        "$source"/crates/test-programs/src/bin/p2_file_*.rs
    # Folders are mounted at absolute paths.
    sed -i 's|"readonly"|"/readonly"|' "$source"/crates/test-programs/src/bin/p[12]_file_*.rs
    touch "$source/$commit"
fi

bins=()
names=()
for file in "$source"/crates/test-programs/src/bin/p[12]_*.rs; do
    name=$(basename "$file" .rs)
    names+=("$name")
    bins+=(--bin "$name")
done
cd "$source"
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$source/target CARGO_PROFILE_DEV_DEBUG=0
export RUSTFLAGS='-Clinker=wasm-ld-22 -Clink-self-contained=no -Clink-arg=-L/usr/lib/wasm32-wasi -Clink-arg=/usr/lib/wasm32-wasi/crt1-command.o'
/usr/bin/cargo build --quiet --package test-programs --target wasm32-wasip1 -Zbuild-std=std,panic_abort "${bins[@]}"

# `cargo build -p orch-runner --examples` makes it.
componentize=${COMPONENTIZE:-$target/debug/examples/componentize}
for name in "${names[@]}"; do
    "$componentize" new "$source/target/wasm32-wasip1/debug/$name.wasm" "$out/$name.wasm"
done
echo "${#names[@]} components in $out, of wasmtime $tag ($commit)"
