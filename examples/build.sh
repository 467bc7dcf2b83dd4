#!/usr/bin/env bash
# Builds the examples and the tests' guests, and puts the components where they are committed.
#
#   build.sh             build and copy into examples/NAME/NAME.wasm and tests/guests/NAME/NAME.wasm
#   build.sh --check     build and compare with the committed ones: fails when imports or exports differ
#   build.sh --install   first install what is missing, with apt-get; may stand beside --check
#
# Two toolchains do, and both make wasip1 core modules that the same adapter then turns into components: Rust's own,
# after `rustup target add wasm32-wasip1`; or Debian's, which needs no download of a target: rustc-web cargo-web
# rust-web-src lld-22 wasi-libc. What is committed is of Debian's, and only that is compared with it: another standard
# library may import one function more.
#
# COMPONENTIZE may name a built runner/examples/componentize; without it, it is built here.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
out=$here/target/components
examples=(repo-digest summarizer tool-loop translator)
guests=(badjson drip echo escape exit7 files flood hog noop reader slow snoop sockets spinner swarm trap wanderer)
debian=(rustc-web cargo-web rust-web-src lld-22 wasi-libc)

check=false
install=false
for argument in "$@"; do
    case $argument in
        --check) check=true ;;
        --install) install=true ;;
        *) echo "usage: build.sh [--install] [--check]" >&2; exit 2 ;;
    esac
done

has_rust_target() {
    [[ -d $(rustc --print target-libdir --target wasm32-wasip1 2>/dev/null) ]]
}
has_debian() {
    [[ -x /usr/bin/rustc && -x /usr/bin/cargo && -x /usr/bin/wasm-ld-22 ]] &&
        [[ -d /usr/lib/rustlib/src/rust/library && -f /usr/lib/wasm32-wasi/crt1-command.o ]]
}

if $install && ! has_debian && { $check || ! has_rust_target; }; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${debian[@]}" >/dev/null
fi

cargo_home=${CARGO_HOME:-$HOME/.cargo}
toolchain=()
arguments=()
flags=()
if ! $check && has_rust_target; then
    echo "building with rustup's toolchain" >&2
    cargo=cargo
elif has_debian; then
    echo "building with Debian's toolchain" >&2
    cargo=/usr/bin/cargo
    # `-Zbuild-std` is how a distribution's compiler gets a standard library for a target it does not ship.
    toolchain=(RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1)
    arguments=(-Zbuild-std=std,panic_abort)
    flags=(-Clinker=wasm-ld-22 -Clink-self-contained=no
        -Clink-arg=-L/usr/lib/wasm32-wasi -Clink-arg=/usr/lib/wasm32-wasi/crt1-command.o)
else
    echo "error: nothing here builds for wasm32-wasip1" >&2
    $check || echo "hint: rustup target add wasm32-wasip1" >&2
    echo "hint: apt-get install ${debian[*]}" >&2
    exit 1
fi

cd "$here"
"$cargo" fetch --quiet --locked
# Panics name the file they come from: what they name must not be the builder's.
flags+=("--remap-path-prefix=$root=/orch" "--remap-path-prefix=/usr/lib/rustlib/src/rust=/rust")
for registry in "$cargo_home"/registry/src/*/; do
    flags+=("--remap-path-prefix=${registry%/}=/crates")
done
# Cargo parts these by the separator that no path holds.
encoded=$(IFS=$'\x1f'; echo "${flags[*]}")
env -u RUSTFLAGS "${toolchain[@]}" CARGO_TARGET_DIR="$here/target" CARGO_ENCODED_RUSTFLAGS="$encoded" \
    "$cargo" build --quiet --locked --release --target wasm32-wasip1 --workspace --bins "${arguments[@]}"

if [[ -z ${COMPONENTIZE:-} ]]; then
    cd "$root"
    COMPONENTIZE=$(cargo build --quiet --locked -p orch-runner --example componentize --message-format json |
        sed -n 's/.*"name":"componentize".*"executable":"\([^"]*\)".*/\1/p')
fi

rm -rf "$out"
mkdir -p "$out"
modules=$here/target/wasm32-wasip1/release
for name in "${examples[@]}" "${guests[@]}"; do
    "$COMPONENTIZE" new "$modules/$name.wasm" "$out/$name.wasm"
done
# One guest stays a core module: adapting those is part of what is tested.
cp "$modules/echo.wasm" "$out/echo-core.wasm"

for built in "$out"/*.wasm; do
    if grep -qaF -e "$root" -e "$cargo_home" -e /rustlib/ "$built"; then
        echo "error: $(basename "$built") holds a path of this machine" >&2
        exit 1
    fi
done

status=0
for built in "$out"/*.wasm; do
    name=$(basename "$built" .wasm)
    committed=$root/tests/guests/$name/$name.wasm
    [[ " ${examples[*]} " == *" $name "* ]] && committed=$here/$name/$name.wasm
    if ! $check; then
        install -m 0644 "$built" "$committed"
    elif [[ $name == echo-core ]]; then
        # A core module has no world of its own; that of its component is compared as `echo`.
        [[ -f $committed ]] || status=1
    else
        "$COMPONENTIZE" compare "$committed" "$built" || status=1
    fi
done
if ((status)); then
    echo "error: what was built differs from what is committed; run examples/build.sh and commit the result" >&2
fi
exit $status
