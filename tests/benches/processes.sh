# How measurements begin and end their processes, to be sourced: a folder `$work` that goes with the script, `begin`, and
# `$started`, what is ended with it.

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

mkfifo "$work/open"
exec 3<>"$work/open"

# Starts a process that prints its first line when it is ready; what it prints is in the file.
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
