#!/usr/bin/env bash
# make cluster-test: the services of docker/compose.yaml as processes of this machine, and a day on them.
# Reads DATASET and RAW from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$ROOT/bin/setup.sh"
if ! "$PYTHON_BIN" -c 'import airflow.providers.celery, asyncpg, psycopg2, redis' 2>/dev/null; then
  say "setup: installing the packages of a cluster into .venv"
  "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements-cluster.txt" ||
    die "the packages cannot be installed"
fi
[ -z "${RAW:-}" ] || [ -d "$RAW" ] || die "there is no folder $RAW"
if ! command -v redis-server >/dev/null || [ ! -x /usr/lib/postgresql/15/bin/postgres ]; then
  die "PostgreSQL 15 and Redis are needed: install them (Debian: apt-get install postgresql-15 redis-server)"
fi

# Whatever happens, nothing of it stays: not even where pytest itself is killed.
CLUSTER_HOME="$(mktemp -d)"
export CLUSTER_HOME
trap '"$PYTHON_BIN" "$ROOT/tests/compose.py" "$CLUSTER_HOME"; rm -rf -- "$CLUSTER_HOME"' EXIT
trap 'exit 130' INT TERM
chmod 711 "$CLUSTER_HOME" # PostgreSQL runs as another user where this one is root
"$VENV/bin/pytest" -q -s -rs "$ROOT/tests/test_cluster_day.py"
