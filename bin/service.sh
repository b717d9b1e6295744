#!/usr/bin/env bash
# make up, make down, make backfill: Airflow as a service of this machine, for this user.
# Reads DATASET, RAW, LAKE, FROM, TO and PORT from the environment, and for a backfill elsewhere AIRFLOW_URL and
# AIRFLOW_ADMIN_PASSWORD.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
export MTORL_LAKE PORT="${PORT:-8080}"
MTORL_LAKE="$(realpath -m -- "${LAKE:-$ROOT/lake}")"
HOME_OF_SERVICE="$ROOT/.airflow/service"

# A secret made once, for this user's eyes only.
secret() {
  local file="$AIRFLOW_HOME/$1"
  [ -s "$file" ] || (umask 077 && "$PYTHON_BIN" -c 'import secrets; print(secrets.token_urlsafe(64))' >"$file")
  cat "$file"
}

service_environment() {
  airflow_environment "$HOME_OF_SERVICE"
  export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="admin:admin"
  export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE="$AIRFLOW_HOME/passwords.json"
  export AIRFLOW__API__HOST=127.0.0.1 AIRFLOW__API__PORT="$PORT" AIRFLOW__API__WORKERS=1
  export AIRFLOW__API__BASE_URL="http://127.0.0.1:$PORT"
  export AIRFLOW__CORE__EXECUTION_API_SERVER_URL="http://127.0.0.1:$PORT/execution/"
  AIRFLOW__API_AUTH__JWT_SECRET="$(secret jwt.secret)"
  AIRFLOW__API__SECRET_KEY="$(secret api.secret)"
  export AIRFLOW__API_AUTH__JWT_SECRET AIRFLOW__API__SECRET_KEY
}

up() {
  case "$PORT" in *[!0-9]* | 0*) die "PORT is a number, not '$PORT'" ;; esac
  "$ROOT/bin/setup.sh"
  check_dataset "$DATASET"
  if [ -n "${RAW:-}" ]; then
    [ -d "$RAW" ] || die "there is no folder $RAW"
    export "MTORL_RAW_${DATASET^^}=$(realpath -- "$RAW")"
  fi
  service_environment
  [ -z "${RAW:-}" ] || small_days "$RAW"
  "$PYTHON_BIN" "$ROOT/bin/service.py" check
  airflow_database "$AIRFLOW_HOME/setup.log"
  # One slot: two trainings would share the memory of one GPU.
  airflow pools set gpu 1 "one training at a time" >>"$AIRFLOW_HOME/setup.log" 2>&1 ||
    die "the pool 'gpu' cannot be made: see $AIRFLOW_HOME/setup.log"
  "$PYTHON_BIN" "$ROOT/bin/service.py" up
  printf '%s' "$MTORL_LAKE" >"$AIRFLOW_HOME/lake"
  say "alerts: ${MTORL_ALERTS:-$AIRFLOW_HOME/alerts.log}"
}

backfill_days() { AIRFLOW_HOME="$HOME_OF_SERVICE" "$PYTHON_BIN" "$ROOT/bin/backfill.py" "$DATASET" "$1" "$2"; }

# FIRST, and where some day needs work TODO_FROM and TODO_TO, of the lake that the service works on.
find_todo() {
  local found
  found="$("$PYTHON_BIN" -m jobs.status --dataset "$DATASET" --lake "$(cat "$HOME_OF_SERVICE/lake")" --todo)" || exit $?
  read -r FIRST TODO_FROM TODO_TO <<<"$found"
}

backfill() {
  # Before set-up, which may take minutes.
  if [ -z "${FROM:-}" ] || [ -z "${TO:-}" ]; then
    [ -z "${FROM:-}${TO:-}" ] || die "make backfill needs FROM=YYYY-MM-DD and TO=YYYY-MM-DD, or neither: then what is stale"
    [ -z "${AIRFLOW_URL:-}" ] || die "make backfill with AIRFLOW_URL needs FROM and TO: what is stale there is not known here"
  fi
  "$ROOT/bin/setup.sh"
  export PYTHONPATH="$ROOT"
  check_dataset "$DATASET"
  if [ -n "${FROM:-}" ]; then
    backfill_days "$FROM" "$TO"
    return
  fi
  [ -s "$HOME_OF_SERVICE/lake" ] || die "Airflow is not running: start it with make up"
  # The first day first: whichever day's run takes note of all raw files, and only then is it known what hangs on those
  # that have changed. Not the last day's: the model would learn it before the days that are missing, and so not these.
  find_todo
  backfill_days "$FIRST" "$FIRST"
  find_todo
  if [ -n "$TODO_FROM" ]; then backfill_days "$TODO_FROM" "$TODO_TO"; fi
}

case "$1" in
  up) up ;;
  down)
    # Nothing was ever started where there is no virtual environment.
    [ -x "$PYTHON_BIN" ] || exit 0
    export AIRFLOW_HOME="$HOME_OF_SERVICE" PYTHONPATH="$ROOT"
    "$PYTHON_BIN" "$ROOT/bin/service.py" down
    ;;
  backfill) backfill ;;
esac
