#!/bin/sh
# Writes a token of the machine's or pod's identity into a file for REDIS_AUTH_FILE, and renews it every half an hour:
#   token.sh google FILE
#   token.sh azure FILE OBJECT_ID    (of the managed identity: it is the user's name)
# Needs curl. Runs beside Tollgate, which reads the file at each connection. METADATA is the metadata service, RENEW the
# seconds between tokens; RENEW=0 writes one and ends.
set -eu
cloud=$1 file=$2

case $cloud in
  google)
    user=default header='Metadata-Flavor: Google'
    url=${METADATA:-http://metadata.google.internal}/computeMetadata/v1/instance/service-accounts/default/token
    ;;
  azure)
    user=$3 header='Metadata: true'
    url="${METADATA:-http://169.254.169.254}/metadata/identity/oauth2/token?api-version=2018-02-01"
    url="$url&resource=https%3A%2F%2Fredis.azure.com"
    ;;
  *) echo "unknown cloud: $cloud (google or azure)" >&2; exit 2 ;;
esac

umask 077
while :; do
  if token=$(curl -fsS --max-time 10 -H "$header" "$url" | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p') &&
    [ -n "$token" ]; then
    # Whole or not at all: a connection may be made at any moment.
    printf '%s:%s\n' "$user" "$token" >"$file.new" && mv "$file.new" "$file"
    wait=${RENEW:-1800}
  else
    echo "no token from $cloud, trying again in 10 s" >&2
    wait=10
    [ "${RENEW:-1800}" != 0 ] || exit 1
  fi
  [ "${RENEW:-1800}" != 0 ] || exit 0
  sleep "$wait"
done
