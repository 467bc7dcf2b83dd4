#!/usr/bin/env bash
# What run.sh checks, inside the bus that it made.
set -euo pipefail

passed=0
failed=0
key_file=$ORCH_HOME/data/keys/vault.key

# Runs a function as a test.
check() {
    local name=$1 said status
    set +e
    said=$(set -e; "$name" 2>&1)
    status=$?
    set -e
    if ((status)); then
        failed=$((failed + 1))
        printf 'test %s ... FAILED\n%s\n' "$name" "$said"
    else
        passed=$((passed + 1))
        printf 'test %s ... ok\n' "$name"
    fi
}

orch() { "$ORCH" "$@"; }

# Expects an exit code.
exits() {
    local expected=$1 status=0
    shift
    "$@" || status=$?
    [[ $status == "$expected" ]] || { echo "exit code $status instead of $expected: $*"; return 1; }
}

kinds() {
    orch vault slots list --json | python3 -c 'import json, sys; print(*(s["kind"] for s in json.load(sys.stdin)["slots"]))'
}

# This session without its bus, as over ssh or in cron.
without_bus() { env -u DBUS_SESSION_BUS_ADDRESS -u XDG_RUNTIME_DIR "$@"; }

auto_takes_the_keychain() {
    printf 'sk-0123456789-of-the-keychain' | orch secrets set OPENAI_API_KEY -
    [[ $(kinds) == keychain ]]
    [[ ! -e $key_file ]]
}

another_process_opens_it() {
    orch secrets list --json | grep -q OPENAI_API_KEY
    orch doctor --json | grep -q 'opened by the keychain'
}

without_the_keychain_nothing_opens_and_no_file_appears() {
    exits 7 without_bus "$ORCH" secrets list 2>"$HOME/said"
    grep -q 'no bus' "$HOME/said"
    printf 'sk-0123456789-of-another-one' | exits 7 without_bus "$ORCH" secrets set ANTHROPIC_API_KEY -
    [[ ! -e $key_file ]]
}

new_keys_replace_the_entry() {
    orch vault rekey --json | grep -q '"term":2'
    orch secrets list --json | grep -q OPENAI_API_KEY
}

a_file_slot_opens_it_without_the_keychain() {
    orch vault slots add file
    [[ $(kinds) == 'keychain file' ]]
    without_bus "$ORCH" secrets list --json | grep -q OPENAI_API_KEY
}

the_keychain_slot_goes_with_its_entry() {
    orch vault slots rm keychain --yes
    [[ $(kinds) == file ]]
    orch secrets list --json | grep -q OPENAI_API_KEY
    exits 7 orch vault slots rm file --yes
    orch vault slots add keychain
    orch vault slots rm file --yes
    [[ $(kinds) == keychain && ! -e $key_file ]]
}

a_new_vault_wants_the_keychain_or_nothing() {
    export ORCH_HOME=$ORCH_HOME-2
    mkdir -m 700 "$ORCH_HOME"
    printf 'vault: { key: keychain }\n' >"$ORCH_HOME/config.yaml"
    chmod 600 "$ORCH_HOME/config.yaml"
    printf 'sk-0123456789-of-the-keychain' | exits 7 without_bus "$ORCH" secrets set OPENAI_API_KEY -
    [[ ! -e $ORCH_HOME/data/keys/vault.key ]]
    printf 'sk-0123456789-of-the-keychain' | orch secrets set OPENAI_API_KEY -
    [[ $(kinds) == keychain ]]
}

# In the foreground of this script's jobs, so that it ends with it.
printf 'password of the login keyring' | gnome-keyring-daemon --unlock --foreground --components=secrets >/dev/null 2>&1 &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true' EXIT
# It is there when it owns its name on the bus.
for _ in $(seq 100); do
    dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
        string:org.freedesktop.secrets 2>/dev/null | grep -q true && break
    sleep 0.1
done

check auto_takes_the_keychain
check another_process_opens_it
check without_the_keychain_nothing_opens_and_no_file_appears
check new_keys_replace_the_entry
check a_file_slot_opens_it_without_the_keychain
check the_keychain_slot_goes_with_its_entry
check a_new_vault_wants_the_keychain_or_nothing

result=ok
((failed == 0)) || result=FAILED
printf 'test result: %s. %d passed; %d failed; 0 ignored\n' "$result" "$passed" "$failed"
exit $((failed > 0))
