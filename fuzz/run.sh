#!/usr/bin/env bash
# Runs every fuzz target for a minute (fuzz/run.sh SECONDS: for as long as that), beginning with the seeds in fuzz/corpus.
# Needs a nightly toolchain and cargo-fuzz, because libFuzzer wants the compiler's own instrumentation; it says how to get
# what is missing. What a target fails on is left in fuzz/artifacts; put it into fuzz/corpus/TARGET, where the ordinary
# tests replay it on the stable compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
rustup run nightly rustc --version || { echo "missing: rustup toolchain install nightly" >&2; exit 1; }
command -v cargo-fuzz >/dev/null || { echo "missing: cargo install --locked cargo-fuzz" >&2; exit 1; }

failed=()
for target in fuzz/fuzz_targets/*.rs; do
  target=$(basename "$target" .rs)
  # What is found on the way is kept apart from the seeds, which are small, named and in the repository.
  found=fuzz/target/found/$target
  mkdir -p "$found"
  seeds=("$found" "fuzz/corpus/$target")
  if [ "$target" = rules ]; then seeds+=(tests/rules/good tests/rules/bad config); fi
  echo "==> $target, $seconds s"
  # No code here is unsafe, and the address sanitizer would watch that of others at half the speed.
  cargo +nightly fuzz run --sanitizer none "$target" "${seeds[@]}" -- -max_total_time="$seconds" -rss_limit_mb=2048 \
    -timeout=10 -max_len=16384 -print_final_stats=1 || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}; see fuzz/artifacts" >&2
  exit 1
fi
