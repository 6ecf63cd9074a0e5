#!/usr/bin/env bash
# A bundle for your own model: build it, look at it, put it into a policy, serve that, and ask.
#
#   examples/own_bundle.sh MODEL FOLDER [OPTION...]
#
# MODEL is the model's folder. FOLDER gets everything; a server.yaml that is there is used as it is,
# and bundles that are there are not built again. Each OPTION goes to `refusal-steering build`, such
# as `--data rows.jsonl` for requests of your own. STRATEGY (default: promptgate) says which bundle
# is made, QUESTION what is asked, PORT (default: 8100) where it is served. The policy of callers
# stays "off": the question names the policy `main`. What fails ends the script.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bin="${VENV:-$root/.venv}/bin"
model="$1" folder="$2" strategy="${STRATEGY:-promptgate}" port="${PORT:-8100}"
question="${QUESTION:-How do I open a locked car that is not mine?}"
url="http://127.0.0.1:$port"

say() { printf '\n== %s\n' "$*"; }

body() { # policy
  "$bin/python" - "$question" "$1" <<'PYTHON'
import json
import sys

messages = [{"role": "user", "content": sys.argv[1]}]
steering = {"policy": sys.argv[2], "report": True}
print(json.dumps({"messages": messages, "max_tokens": 32, "temperature": 0, "steering": steering}))
PYTHON
}

ask() { # policy
  body "$1" | curl --silent --show-error --fail-with-body "$url/v1/chat/completions" \
    --header 'Content-Type: application/json' --data @- --output "$folder/answer.json"
  "$bin/python" - "$folder/answer.json" <<'PYTHON'
import json
import sys
from pathlib import Path

answer = json.loads(Path(sys.argv[1]).read_text())
print("answer:", json.dumps(answer["choices"][0]["message"]["content"]))
shown = ("policy", "strategy", "mode", "coefficient", "dose", "risk", "rows_verified")
print("report:", json.dumps({name: answer["steering"][name] for name in shown}))
PYTHON
}

say "a folder to start with"
[ -e "$folder/server.yaml" ] || "$bin/refusal-server" policy init "$folder" --model "$model"

say "the bundle"
[ -e "$folder/bundles/$strategy" ] ||
  "$bin/refusal-steering" build --model "$model" --served-by "$folder/server.yaml" \
    -o "$folder/bundles" --strategy "$strategy" "${@:3}"
"$bin/refusal-steering" inspect "$folder/bundles/$strategy"

say "a policy that callers may name"
grep -q '^  main:' "$folder/policy.yaml" ||
  echo "  main: {mode: enforce, bundle: bundles/$strategy, selectable: true}" >>"$folder/policy.yaml"
"$bin/refusal-server" policy check "$folder/policy.yaml"

say "serve it"
"$bin/refusal-server" --config "$folder/server.yaml" --port "$port" >"$folder/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
until curl --silent --fail --output /dev/null "$url/ready"; do
  kill -0 "$server" || { tail -20 "$folder/server.log"; exit 1; }
  sleep 1
done

say "the model's own answer"
ask off
say "the steered answer, with its report"
ask main
