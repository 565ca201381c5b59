#!/usr/bin/env bash
# postgres.sh PORT PASSWORD: PostgreSQL on loopback, in a folder of its own, until it is sent SIGTERM; user and
# database are called postgres. Debian's package is installed where there is none. Status 77: it cannot be had here.
set -euo pipefail
port=$1 password=$2

no() {
  echo "$1" >&2
  exit 77
}

bin() {
  find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1
}

if [ -z "$(bin)" ]; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || no 'no PostgreSQL, and installing it takes root and apt-get'
  mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf # nothing else is to be started
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; } >&2 || no 'apt-get found no PostgreSQL'
fi

unprivileged() { # PostgreSQL refuses to run as root
  if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid postgres --regid postgres --clear-groups "$@"
  fi
  exec "$@"
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "$password" >"$folder/password"
[ "$(id -u)" != 0 ] || chown -R postgres "$folder"
cd "$folder"
(unprivileged "$(bin)/initdb" -U postgres -A scram-sha-256 --pwfile=password --no-locale -E UTF8 data) >&2

(unprivileged "$(bin)/postgres" -D data -h 127.0.0.1 -p "$port" -k '') &
trap 'kill -INT $!' TERM INT
wait $! || wait $! || true # the first is cut short by the signal
