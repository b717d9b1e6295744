#!/usr/bin/env bash
# make cluster-test: the services of docker/compose.yaml as processes of this machine, and a day on them.
# Reads DATASET and RAW from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ -z "${RAW:-}" ] || [ -d "$RAW" ] || die "there is no folder $RAW"
"$ROOT/bin/setup.sh"

STAMP="$VENV/.installed-cluster"
WANTED="$(sha256sum <"$ROOT/requirements-cluster.txt")"
if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
  say "setup: installing the packages of a cluster into .venv"
  "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements-cluster.txt" ||
    die "the packages of requirements-cluster.txt cannot be installed"
  printf '%s\n' "$WANTED" >"$STAMP"
fi

has_servers() { command -v redis-server && compgen -G '/usr/lib/postgresql/*/bin/postgres'; } >/dev/null
if ! has_servers && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "setup: installing PostgreSQL and Redis"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql redis-server; } \
    >>"$VENV/setup.log" 2>&1 || true
fi
has_servers || die "PostgreSQL and Redis are needed: install them (Debian, Ubuntu: apt-get install postgresql redis-server)"

# Whatever happens, nothing of it stays: not even where pytest itself is killed.
CLUSTER_HOME="$(mktemp -d)"
export CLUSTER_HOME
trap '"$PYTHON_BIN" "$ROOT/tests/helpers/compose.py" "$CLUSTER_HOME"; rm -rf -- "$CLUSTER_HOME"' EXIT
chmod 711 "$CLUSTER_HOME" # PostgreSQL runs as another user where this one is root
"$VENV/bin/pytest" -q -s -rs "$ROOT/tests/test_cluster_day.py" &
TESTS=$!
trap 'kill "$TESTS" 2>/dev/null; exit 130' INT TERM
wait "$TESTS"
