#!/usr/bin/env bash
# The session that README.md shows, typed by itself: record it with
#   termtosvg docs/pictures/demo.svg -c 'bash docs/pictures/demo.sh' -g 100x30 -M 1500 -t window_frame
# It runs a real node; `actors` and `nats` have to be on the PATH.
set -u
folder=$(mktemp -d)
export TROUPE_DATA_DIR=$folder PS1='$ '

say() { # type a line as a person would, then run it
  printf '\033[1;32m$\033[0m '
  for ((i = 0; i < ${#1}; i++)); do printf '%s' "${1:i:1}"; sleep 0.03; done
  sleep 0.4; printf '\n'; eval "$1"; sleep "${2:-1.2}"
}

actors up --name hera --log-level error 2>/dev/null >"$folder/up.out" &
node=$!
until grep -q Ctrl-C "$folder/up.out" 2>/dev/null; do sleep 0.1; done
until actors instances 2>/dev/null | grep -q ' ready '; do sleep 0.2; done
printf '\033[1;32m$\033[0m '; for c in a c t o r s ' ' u p; do printf '%s' "$c"; sleep 0.05; done; printf '\n'
sed '$d' "$folder/up.out"; sleep 1.5

say 'actors chat --once "How do I see events?"'
runner=$(pgrep -P "$node" -f actors.runner)
say "(sleep 0.8; kill -9 $runner) &    # the process that holds the model, in the middle of an answer" 0
say 'actors chat --once "Count to 100"'
say 'actors events | tail -n 6 | cut -c 1-98' 1
say 'nats kv get troupe_state leader.leader --raw'; printf '\n'
sleep 2
actors down >/dev/null
