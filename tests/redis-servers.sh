#!/usr/bin/env bash
# Gets servers that speak Redis' protocol, of other versions than the machine's own, and prints the path of each as
# `NAME PATH`: what tests take as TOLLGATE_TEST_REDIS. Each is unpacked under target/servers with the libraries and the
# loader that it was built for; nothing is installed, and no root is needed. Needs apt (any Debian or Ubuntu) and, for
# Redis 6.2, unzip with mvn or curl.
#
# Where packages come from can be set:
#   DEBIAN_MIRROR      [default: the mirror that apt is configured with, else http://deb.debian.org/debian]
#   DEBIAN_KEYRING     who may have signed them [default: /usr/share/keyrings/debian-archive-keyring.gpg]
#   MAVEN_REPOSITORY   [default: what mvn is configured with, else https://repo1.maven.org/maven2]
set -euo pipefail
cd "$(dirname "$0")/.."

names=(redis-6.2 redis-7.0 redis-8.0 valkey-8.0 valkey-8.1)
servers=$PWD/target/servers

fail() {
  echo "$*" >&2
  return 1
}

debian_mirror() {
  local configured
  configured=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 !~ /security/ { print $2; exit }')
  echo "${DEBIAN_MIRROR:-${configured:-http://deb.debian.org/debian}}"
}

# apt with lists, a cache and a state of its own: the suites of the release $1, and nothing that is installed.
apt_of() { # apt_of RELEASE apt-get|apt-cache ARGS...
  local release=$1 tool=$2 home=$servers/apt/$1
  shift 2
  "$tool" -qq -o Dir::Etc::SourceList="$home/debian.sources" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State="$home/state" -o Dir::State::Status="$home/status" \
    -o Dir::Cache="$home/cache" -o APT::Sandbox::User= -o Acquire::Languages=none \
    -o APT::Default-Release="$release-backports" "$@"
}

apt_lists() { # apt_lists RELEASE
  local home=$servers/apt/$1 keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
  [ -f "$keyring" ] || { fail "$keyring is missing: install debian-archive-keyring, or set DEBIAN_KEYRING"; return; }
  mkdir -p "$home/state/lists/partial" "$home/cache/archives/partial"
  : >"$home/status"
  printf '%s\n' 'Types: deb' "URIs: $(debian_mirror)" "Suites: $1 $1-updates $1-backports" 'Components: main' \
    "Signed-By: $keyring" >"$home/debian.sources"
  # apt reports an index that it could not fetch as a warning only.
  apt_of "$1" apt-get -o APT::Update::Error-Mode=any -o Acquire::Retries=3 update >&2
}

# Unpacks packages of a Debian release, and the libraries among what they need, into a directory.
unpack() { # unpack RELEASE DIRECTORY PACKAGES...
  local release=$1 into=$2 chosen
  shift 2
  apt_lists "$release" || return
  chosen=$(apt_of "$release" apt-get --simulate --no-install-recommends install "$@" |
    awk '$1 == "Inst" { print $2 }' | grep -E "^(lib.*|zlib1g|$(IFS='|'; echo "$*"))\$") || return
  mkdir -p "$into/packages"
  # The names are single words.
  # shellcheck disable=SC2086
  (cd "$into/packages" && apt_of "$release" apt-get -o Acquire::Retries=3 download $chosen >&2) || return
  for package in "$into"/packages/*.deb; do
    dpkg-deb --extract "$package" "$into/root" || return
  done
}

# A program that runs the binary with the loader and the libraries that were unpacked with it.
wrap() { # wrap DIRECTORY BINARY NAME
  local loader
  loader=$(find "$1/root" -name 'ld-linux-*.so.*' | head -n 1)
  [ -n "$loader" ] && [ -x "$2" ] || { fail "$1 lacks a loader or $2"; return; }
  local libraries
  libraries=$(find "$1/root" -name 'lib*.so.*' ! -path '*/gdb/*' -printf '%h\n' | sort -u | paste -sd:)
  printf '#!/bin/sh\nexec "%s" --library-path "%s" --argv0 %s "%s" "$@"\n' "$loader" "$libraries" "$3" "$2" >"$1/$3"
  chmod +x "$1/$3"
}

maven_jar() { # maven_jar GROUP ARTIFACT VERSION DIRECTORY SHA256
  local jar=$2-$3.jar
  if command -v mvn >/dev/null && [ -z "${MAVEN_REPOSITORY:-}" ]; then
    mvn -q -B -Dstyle.color=never dependency:copy "-Dartifact=$1:$2:$3" "-DoutputDirectory=$4" >&2 || return
  else
    curl -fsSL --retry 3 -o "$4/$jar" "${MAVEN_REPOSITORY:-https://repo1.maven.org/maven2}/${1//./\/}/$2/$3/$jar" || return
  fi
  echo "$5  $4/$jar" | sha256sum --check --quiet >&2
}

# No package of Debian has Redis 6.2 any more. What needs a Redis in tests of Java carries it.
redis_6_2() { # redis_6_2 DIRECTORY
  local binary
  case $(dpkg --print-architecture) in
    amd64) binary=redis-server-6.2.6-v5-linux-amd64 ;;
    arm64) binary=redis-server-6.2.7-linux-arm64 ;;
    *) fail "there is no Redis 6.2 for $(dpkg --print-architecture)"; return ;;
  esac
  command -v unzip >/dev/null || { fail "unzip is missing: apt-get install unzip"; return; }
  unpack bookworm "$1" libssl3 || return
  maven_jar com.github.codemonstur embedded-redis 1.4.3 "$1/packages" \
    ffbc63265c60d25dee453d6f656b527d98200d98657c6a0ab4dec4ea2c3a5cd6 || return
  unzip -qo "$1/packages/embedded-redis-1.4.3.jar" "$binary" -d "$1/root" || return
  chmod +x "$1/root/$binary"
  wrap "$1" "$1/root/$binary" redis-server
}

of_debian() { # of_debian DIRECTORY RELEASE redis|valkey
  unpack "$2" "$1" "$3-server" "$3-tools" || return
  # The server is a link to the tool that checks its files: one binary, told by its name.
  wrap "$1" "$1/root/usr/bin/$3-check-rdb" "$3-server"
}

get() { # get NAME
  local into=$servers/$1.new
  rm -rf "$into"
  mkdir -p "$into"
  case $1 in
    redis-6.2) redis_6_2 "$into" ;;
    redis-7.0) of_debian "$into" bookworm redis ;;
    redis-8.0) of_debian "$into" trixie redis ;;
    valkey-8.0) of_debian "$into" bookworm valkey ;;
    valkey-8.1) of_debian "$into" trixie valkey ;;
    *) fail "unknown server: $1 (there are: ${names[*]})" ;;
  esac || return
  rm -rf "$into/packages" "${servers:?}/$1"
  # Its own path is in the program.
  sed -i "s|$into|$servers/$1|g" "$into/${1%%-*}-server"
  mv "$into" "$servers/$1"
}

[ $# -gt 0 ] || set -- "${names[@]}"
result=0
for name in "$@"; do
  binary=$servers/$name/${name%%-*}-server
  said=$("$binary" --version 2>/dev/null || true)
  case $said in
    *" v=${name#*-}."*) ;;
    *)
      get "$name" || { echo "$name could not be had" >&2; result=1; continue; }
      said=$("$binary" --version) || true
      ;;
  esac
  case $said in
    *" v=${name#*-}."*) echo "$name $binary" ;;
    *) echo "$name is not what was unpacked for it: ${said:-$binary does not run}" >&2; result=1 ;;
  esac
done
exit $result
