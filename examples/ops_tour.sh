#!/usr/bin/env bash
# A day in the life of an operator, on the demo model: shadow, a look at the rates, a split of 10 %,
# enforce, a broken policy file, a rollback; with the metrics and the audit lines that came of it.
#
#   make serve once, stop it, then:   examples/ops_tour.sh [FOLDER]
#
# Everything happens in FOLDER (default: a new temporary one); the server runs on 127.0.0.1:$PORT
# (default 8200) with its ops port behind it. Takes a few minutes on two cores. An answer that is not
# the expected one ends the tour with an error.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:-$(mktemp -d)}"
port="${PORT:-8200}"
ops=$((port + 1))
admin="tour-$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')"
bin="$root/.venv/bin"

say() { printf '\n== %s\n' "$*"; }
field() { "$bin/python" -c "import json,sys; print(json.load(sys.stdin)$1)"; }
ops_get() { curl -sS -H "Authorization: Bearer $admin" "http://127.0.0.1:$ops$1"; }

policy() { # mode of the main policy, and more lines for it
  cat <<YAML
default: main
policies:
  main:
    mode: $1
    bundle: bundles/omnisteer
${2:-}
  steered: {mode: enforce, bundle: bundles/omnisteer, selectable: true}
  off: {mode: off, selectable: true}
YAML
}

change() { # method, path below /admin/policy, more options for curl
  local status
  status="$(curl -sS -o "$folder/change.json" -w '%{http_code}' -X "$1" \
    -H "Authorization: Bearer $admin" "${@:3}" "http://127.0.0.1:$ops/admin/policy$2")"
  echo "$1 /admin/policy$2: $status"
  [ "$status" = 200 ] || { cat "$folder/change.json"; return 1; }
}

apply() { # YAML on standard input
  local version
  version="$(ops_get /admin/policy | field '["version"]')"
  cat >"$folder/new.yaml"
  local body=(-H 'Content-Type: application/yaml' --data-binary "@$folder/new.yaml")
  change PUT '?dry_run=true' "${body[@]}"
  field '["diff"]' <"$folder/change.json"
  change PUT '' -H "If-Match: $version" "${body[@]}"
}

traffic() { # harmful and everyday requests of the contrast set, eight at once
  "$bin/python" - "$port" "$1" <<'PYTHON'
import sys
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI

from refusal_steering.prompts.contrast_set import load_items, render

port, turn = sys.argv[1], int(sys.argv[2])
client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
model = client.models.list().data[0].id
held = [i for i in load_items() if i.split == "held" and i.domain != "borderline"]
chosen = [held[(7 * n + turn) % len(held)] for n in range(48)]


def ask(item):
    answer = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": render(item, "list", 0)}],
        max_tokens=24,
        temperature=0,
    )
    return item.harmful, answer.headers["x-steering"], answer.parse().choices[0].message.content


with ThreadPoolExecutor(8) as pool:
    done = list(pool.map(ask, chosen))
for harmful in (True, False):
    own = [text or "" for is_harmful, _, text in done if is_harmful is harmful]
    refused = sum("sorry" in text.lower()[:60] for text in own)
    print(f"{'harmful' if harmful else 'everyday'}: {refused} of {len(own)} refused")
print("a header:", done[0][1])
PYTHON
}

rates() {
  curl -sS "http://127.0.0.1:$ops/metrics" |
    grep -E '^steering_(requests_total|rows_total|denied_total|fail_open_total|policy_last_reload_successful|policy_info)' |
    sed -E 's/model_name="[^"]*",?//'
}

model="$("$bin/python" "$root/deploy/local/demo_model.py" --print-path)"
mkdir -p "$folder"
ln -sfn "$root/deploy/demo/bundles" "$folder/bundles"
policy shadow >"$folder/policy.yaml"
(umask 077 && printf '%s\n' "$admin" >"$folder/admin.key")
cat >"$folder/server.yaml" <<YAML
server:
  host: 127.0.0.1
  port: $port
  ops_port: $ops
  policy_file: policy.yaml
  admin_key_file: admin.key
  audit: {file: "$folder/audit.jsonl"}
engine:
  model: "$model"
  max_model_len: 2048
  max_num_seqs: 16
  kv_cache_memory_bytes: 268435456
YAML

say "the doctor looks first"
"$bin/refusal-server" doctor --config "$folder/server.yaml"

say "start in shadow: everything is measured, nothing is added"
"$bin/refusal-server" --config "$folder/server.yaml" >"$folder/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
until curl -sf -o /dev/null "http://127.0.0.1:$ops/ready"; do
  kill -0 "$server" || { tail -20 "$folder/server.log"; exit 1; }
  sleep 2
done
traffic 1
rates

say "a split of 10 % gets the steered policy"
policy shadow '    split: {policy: steered, share: 0.1, by: request}' | apply
traffic 2
rates | grep -E 'arm="(treatment|control)"'

say "enforce for everyone"
policy enforce | apply
traffic 3
rates

say "somebody breaks the policy file: the last good one stays"
printf 'default: main\npolicies: {main: {mode: enfroce, bundle: bundles/omnisteer}}\n' >"$folder/policy.yaml"
"$bin/refusal-server" policy check "$folder/policy.yaml" || echo "exit code $?"
for _ in {1..15}; do
  rates | grep 'reload_successful.* 0' >/dev/null && break
  sleep 1
done
rates | grep 'reload_successful.* 0'
traffic 4

say "put a whole file there again, then roll back"
policy shadow | apply
change POST /rollback
ops_get /admin/policy | field '["version"]'
rates | grep -E 'reload_successful|policy_info'

say "stop, and what the audit log says"
kill -TERM "$server"
wait "$server" || true
trap - EXIT
"$bin/python" - "$folder/audit.jsonl" <<'PYTHON'
import json
import sys
from collections import Counter
from pathlib import Path

lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
print(dict(Counter(line["event"] for line in lines)))
for event in ("answered", "policy_changed", "admin"):
    print(next((json.dumps(line) for line in lines if line["event"] == event), f"no {event}"))
PYTHON
echo "everything is in $folder"
