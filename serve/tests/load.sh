#!/usr/bin/env bash
# Loads a server from a second process: steady load, kill -9 and a restart, and SIGTERM, all under load.
# Usage: serve/tests/load.sh PIPELINE LOAD MODEL [SECONDS]
# PIPELINE and LOAD are the binary and the example `load`; MODEL is what `pipeline serve` takes. The default is 10 minutes.
set -euo pipefail
pipeline=$1 load=$2 model=$3 seconds=${4:-600}
port=18090
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -r "$folder"' EXIT

start() {
    PIPELINE_LOG=warn "$pipeline" serve "$model" --port "$port" >"$folder/out" 2>>"$folder/log" &
    server=$!
    until "$pipeline" serve --check --port "$port" 2>/dev/null; do sleep 0.2; done
}

echo "== 64 clients for $seconds s"
start
"$load" "127.0.0.1:$port" "$seconds" 64 "$server"

echo "== kill -9 and restart, after 10 of 30 s"
"$load" "127.0.0.1:$port" 30 64 >"$folder/killed" &
client=$!
sleep 10
kill -9 "$server"
wait "$server" 2>/dev/null || true
start
wait "$client"
cat "$folder/killed"

echo "== SIGTERM after 10 of 20 s"
"$load" "127.0.0.1:$port" 20 64 >"$folder/stopped" &
client=$!
sleep 10
kill -TERM "$server"
wait "$server" && echo "the server exits with 0"
wait "$client"
cat "$folder/stopped"
if grep -E 'cut off|no answer' "$folder/stopped"; then
    echo "a request was lost"
    exit 1
fi
echo "== the server's warnings"
sort "$folder/log" | uniq -c
