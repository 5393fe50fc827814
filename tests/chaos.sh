#!/usr/bin/env bash
# The chaos suite, alone and long: every fault of tests/it/chaos on real processes under 2,000 requests a second. Prints
# the table of docs/src/why/reliability.md; exits 1 where a goal was missed, with what was measured. Run it on a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'END'
usage: tests/chaos.sh [--minutes N] [--rate N] [--only TEXT] [--json]

  --minutes N   about how long all faults take together [default: 4]
  --rate N      requests a second, over two replicas [default: 2000]
  --only TEXT   only faults whose test's name contains it
  --json        a line of JSON for each fault instead of the table

examples:
  tests/chaos.sh --minutes 10
  tests/chaos.sh --only sentinel --json
END
}

minutes=4 rate=2000 only= json=
while [ $# -gt 0 ]; do
  case $1 in
    --minutes) minutes=${2:?--minutes needs a number}; shift 2 ;;
    --rate) rate=${2:?--rate needs a number}; shift 2 ;;
    --only) only=${2:?--only needs a part of a name}; shift 2 ;;
    --json) json=1; shift ;;
    -h | --help) usage; exit ;;
    *) echo "unknown: $1" >&2; usage >&2; exit 2 ;;
  esac
done
case $minutes$rate in *[!0-9]*) echo "--minutes and --rate take whole numbers" >&2; exit 2 ;; esac

faults=16 around=7 # seconds before and after each
seconds=$((minutes * 60 / faults - around))
export CHAOS_GOALS=1 CHAOS_RATE=$rate CHAOS_SECONDS=$((seconds > 1 ? seconds : 1))
log=$(mktemp) lines=$(mktemp)
trap 'rm -f "$log" "$lines"' EXIT
[ -z "$json" ] || export CHAOS_JSON=$lines

cargo build --release --locked >&2
cargo test --locked --test it --no-run >&2
export TOLLGATE_TEST_BINARY=$PWD/target/release/tollgate
echo "each fault for $CHAOS_SECONDS s at $rate requests a second" >&2
[ -n "$json" ] || printf '%s\n' \
  '| fault | answers | later than 20 ms | latest | errors | degraded | above the limit: closed, error | local | until it decided again |' \
  '|---|---|---|---|---|---|---|---|---|'
result=0
cargo test --locked --test it "chaos::faults::$only" -- --test-threads=1 --nocapture >"$log" 2>&1 || result=$?
[ -n "$json" ] && cat "$lines" || grep -o '| .* s |$' "$log" || true
if [ $result != 0 ]; then
  echo "a goal was missed:" >&2
  grep -A1 'panicked at' "$log" >&2 || tail -n 20 "$log" >&2
fi
exit $result
