#!/usr/bin/env bash
# The tests that start a Redis, against each Redis that people run: what the store must hold, its twin in memory, faults,
# TLS, sentinels, Clusters. Servers are those of tests/redis-servers.sh, and one that can't be had fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_PROGRESS_WHEN=never

names=(redis-6.2 redis-7.0 redis-8.0 valkey-8.0 valkey-8.1)

usage() {
  cat <<END
usage: tests/redis-matrix.sh [--only NAME]... [--quick] [-- TEST...]

  --only NAME   this server alone: ${names[*]}
  --quick       only the contract, the twin, sentinels, TLS and a Cluster
  TEST...       tests whose names hold one of these words, instead of all that start a Redis

examples:
  tests/redis-matrix.sh
  tests/redis-matrix.sh --only valkey-8.1 --quick
  tests/redis-matrix.sh --only redis-6.2 -- redis_twin redis_topology
END
}

only=() tests=(redis_ store_contract split_redis exact_fleet reset_order overrides_sync rollout run_time)
while [ $# -gt 0 ]; do
  case $1 in
    --only) only+=("${2:?--only needs a name}"); shift 2 ;;
    --quick) tests=(store_contract redis_twin redis_topology redis_exact redis_server); shift ;;
    --) shift; tests=("$@"); break ;;
    -h | --help) usage; exit ;;
    *) echo "unknown: $1" >&2; usage >&2; exit 2 ;;
  esac
done
[ ${#only[@]} -gt 0 ] || only=("${names[@]}")
[ ${#tests[@]} -gt 0 ] || { echo "-- needs a word of a test's name" >&2; exit 2; }
command -v redis-cli >/dev/null || { echo "redis-cli is missing: apt-get install redis-tools" >&2; exit 1; }

logs=target/redis-matrix
mkdir -p "$logs"
cargo test --locked --test it --no-run

table=() result=0
for name in "${only[@]}"; do
  if ! got=$(tests/redis-servers.sh "$name"); then
    table+=("$(printf '%-11s %-8s could not be had' "$name" -)") result=1
    continue
  fi
  binary=${got#* } began=$SECONDS log=$logs/$name.log
  version=$("$binary" --version | sed 's/.* v=\([^ ]*\).*/\1/')
  echo "==> $name ($version): ${tests[*]}"
  said=passed
  if ! TOLLGATE_TEST_REDIS=$binary cargo test --locked --test it -- "${tests[@]}" >"$log" 2>&1; then
    said=FAILED result=1
    grep -A 3 ' panicked at ' "$log" || tail -n 30 "$log"
  fi
  counts=$(sed -nE 's/^test result.*\. ([0-9]+ passed; [0-9]+ failed; [0-9]+ ignored).*/\1/p' "$log")
  case $counts in
    # Words that are in no test's name run none, and that is no pass.
    "" | "0 passed; 0 failed"*) said=FAILED counts="no test was run" result=1 ;;
  esac
  table+=("$(printf '%-11s %-8s %s: %s; %d s' "$name" "$version" "$said" "$counts" $((SECONDS - began)))")
done

echo "==> summary"
printf '%s\n' "${table[@]}"
exit $result
