#!/usr/bin/env bash
# The API with curl: a whole answer with its report, a stream, and the risk of a text.
#
#   examples/curl.sh [URL]        # http://127.0.0.1:8000 where `make serve` runs
#
# REFUSAL_SERVER_API_KEY holds the key where the server needs one. An error of the server's ends it.
set -euo pipefail
url="${1:-http://127.0.0.1:8000}"
key="${REFUSAL_SERVER_API_KEY:-none}"

ask() { # path, body
  curl --silent --show-error --fail-with-body --no-buffer "$url$1" \
    --header "Authorization: Bearer $key" --header 'Content-Type: application/json' --data "$2"
}

echo '== models'
curl --silent --show-error --fail-with-body "$url/v1/models" --header "Authorization: Bearer $key"
printf '\n== a whole answer, with what steering did\n'
ask /v1/chat/completions '{
  "messages": [{"role": "user", "content": "What is the capital of France?"}],
  "max_tokens": 32, "temperature": 0, "steering": {"report": true}}'
printf '\n== streamed; the report stands on the last chunk\n'
ask /v1/chat/completions '{
  "messages": [{"role": "user", "content": "What is the capital of France?"}],
  "max_tokens": 32, "temperature": 0, "stream": true, "steering": {"report": true}}'
printf '== a field that is refused: the error says which, and why\n'
ask /v1/chat/completions '{"messages": [{"role": "user", "content": "Hi"}], "steering": {"strenght": 1}}' || true
echo
