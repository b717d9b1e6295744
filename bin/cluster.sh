#!/usr/bin/env bash
# make cluster-test: the services of docker/compose.yaml as processes of this machine, and a day of a log on them.
# Reads DATASET and RAW from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ -z "${RAW:-}" ] || [ -d "$RAW" ] || die "there is no folder $RAW"
"$ROOT/bin/setup.sh"
say "setup: packages of a cluster and of an S3 store"
for file in requirements-cluster.txt requirements-s3.txt requirements-s3-server.txt; do install_requirements "$file"; done

has_servers() { command -v redis-server && compgen -G '/usr/lib/postgresql/*/bin/postgres'; } >/dev/null
if ! has_servers && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "setup: installing PostgreSQL and Redis"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql redis-server; } \
    >>"$VENV/setup.log" 2>&1 || true
fi
has_servers || die "PostgreSQL and Redis are needed: install them (Debian, Ubuntu: apt-get install postgresql redis-server)"

# Even where pytest itself is killed, no process and no file of the cluster remains.
CLUSTER_HOME="$(mktemp -d)"
export CLUSTER_HOME
trap '"$PYTHON_BIN" "$ROOT/tests/helpers/cluster.py" "$CLUSTER_HOME"; rm -rf -- "$CLUSTER_HOME"' EXIT
chmod 711 "$CLUSTER_HOME" # where this user is root, PostgreSQL runs as another one
"$VENV/bin/pytest" -q -s -rs "$ROOT/tests/test_cluster_day.py" &
TESTS=$!
trap 'kill "$TESTS" 2>/dev/null; exit 130' INT TERM
wait "$TESTS"
