#!/usr/bin/env bash
# The coding agents of OpenAI, Google and Anthropic, unmodified, against `orch serve` with simulated providers: each asks models
# of its own maker and of others, with all of its tools, and has to end well with every request served. Not part of CI: they
# are 700 MB. Needs Node.js with npm, curl and jq, and the network to install them once.
#
#   tests/clients/agents.sh
#
# Builds `orch`, unless ORCH names one.
set -euo pipefail

codex_version=0.171.0
gemini_version=0.61.0
claude_version=2.1.197

for tool in jq curl node npm; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/tests/benches/processes.sh"

agents=${XDG_CACHE_HOME:-$HOME/.cache}/orch-bench/agents-$codex_version-$gemini_version-$claude_version
if [[ ! -e $agents/complete ]]; then
    mkdir -p "$agents"
    npm install --silent --no-audit --no-fund --prefix "$agents" "@openai/codex@$codex_version" \
        "@google/gemini-cli@$gemini_version" "@anthropic-ai/claude-code@$claude_version"
    touch "$agents/complete"
fi
if [[ -z ${ORCH:-} ]]; then
    cargo build --quiet --bin orch --manifest-path "$root/Cargo.toml"
fi
orch=${ORCH:-${CARGO_TARGET_DIR:-$root/target}/debug/orch}

# Nothing of whoever runs this is read or changed.
export HOME=$work/home ORCH_HOME=$work/orch CODEX_HOME=$work/codex
mkdir -m 700 "$HOME" "$ORCH_HOME" "$CODEX_HOME"
begin "$work/serving" "$orch" serve --simulate --json --listen 127.0.0.1:0
url=$(jq -r .url <(head -n 1 "$work/serving"))
ORCH_TOKEN=$(<"$ORCH_HOME/data/admin-token")
export ORCH_TOKEN
cat >"$CODEX_HOME/config.toml" <<TOML
model_provider = "orch"
web_search = "disabled"
[model_providers.orch]
name = "orch"
base_url = "$url/v1"
env_key = "ORCH_TOKEN"
wire_api = "responses"
TOML
mkdir "$HOME/.gemini" "$work/project"
echo '{"security": {"auth": {"selectedType": "gemini-api-key"}}}' >"$HOME/.gemini/settings.json"
cd "$work/project"

codex() {
    "$agents/node_modules/.bin/codex" exec --skip-git-repo-check --model "$1" "$2"
}
gemini() {
    GEMINI_API_KEY=$ORCH_TOKEN GOOGLE_GEMINI_BASE_URL=$url \
        "$agents/node_modules/.bin/gemini" --skip-trust --model "$1" --prompt "$2"
}
claude() {
    ANTHROPIC_BASE_URL=$url ANTHROPIC_AUTH_TOKEN=$ORCH_TOKEN CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
        "$agents/node_modules/.bin/claude" --model "$1" --print "$2"
}
requests() {
    curl --silent --fail --header "authorization: Bearer $ORCH_TOKEN" "$url/v1/logs?limit=500" | jq -c '.requests[]'
}

passed=0
failed=0
for agent in codex gemini claude; do
    for model in gpt-5.1 claude-sonnet-4-5 gemini-2.5-flash command-a-03-2025; do
        before=$(requests | wc -l)
        ended=0
        ("$agent" "$model" "Who keeps the keys?") </dev/null >"$work/said" 2>&1 || ended=$?
        # The newest come first.
        made=$(requests | head -n "-$before")
        bad=$(jq -c 'select(.status != "served")' <<<"$made")
        if ((ended == 0)) && [[ -n $made && -z $bad ]]; then
            echo "$agent with $model: $(wc -l <<<"$made") requests, all served"
            passed=$((passed + 1))
        else
            echo "$agent with $model: ended with $ended"
            printf '%s\n' "$bad"
            tail -n 5 "$work/said"
            failed=$((failed + 1))
        fi
    done
done
echo "$passed passed, $failed failed"
((failed == 0))
