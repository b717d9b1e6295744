#!/usr/bin/env bash
# make up, make down, make backfill: Airflow as a service of this machine, for this user.
# Reads DATASET, RAW, RAW_<NAME>, LAKE, METHOD, FROM, TO and PORT from the environment; for a backfill in another Airflow, AIRFLOW_URL and
# AIRFLOW_ADMIN_PASSWORD as well.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
export MTORL_LAKE PORT="${PORT:-8080}"
MTORL_LAKE="$(location "${LAKE:-$ROOT/lake}")"
SERVICE_HOME="$ROOT/.airflow/service"

service_environment() {
  airflow_environment "$SERVICE_HOME"
  export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="admin:admin"
  export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE="$AIRFLOW_HOME/passwords.json"
  export AIRFLOW__API__HOST=127.0.0.1 AIRFLOW__API__PORT="$PORT" AIRFLOW__API__WORKERS=1
  export AIRFLOW__API__BASE_URL="http://127.0.0.1:$PORT"
  export AIRFLOW__CORE__EXECUTION_API_SERVER_URL="http://127.0.0.1:$PORT/execution/"
}

# use_log NAME FOLDER: the folder of the daily log of a dataset.
use_log() {
  is_uri "$2" || [ -d "$2" ] || die "there is no folder $2"
  store_packages "$2"
  "$PYTHON_BIN" -m bin.check_input dataset "${1,,}"
  export "MTORL_RAW_${1^^}=$(location "$2")"
}

# The methods of DATASET in all runs; MTORL_METHODS_<NAME> in the environment names those of other datasets.
use_methods() {
  [ -n "${METHOD:-}" ] || return 0
  "$PYTHON_BIN" -m bin.check_input methods "$METHOD"
  export "MTORL_METHODS_${DATASET^^}=$METHOD"
}

up() {
  case "$PORT" in *[!0-9]* | 0*) die "PORT is a number, not '$PORT'" ;; esac
  lake_location "$MTORL_LAKE" >/dev/null
  "$ROOT/bin/setup.sh"
  export PYTHONPATH="$ROOT"
  store_packages "$MTORL_LAKE"
  "$PYTHON_BIN" -m bin.check_input dataset "$DATASET"
  use_methods
  if [ -n "${RAW:-}" ]; then use_log "$DATASET" "$RAW"; fi
  local variable
  for variable in $(compgen -v RAW_); do use_log "${variable#RAW_}" "${!variable}"; done
  # Airflow shows the DAGs of the datasets that have a log. Without any log it shows those of DATASET.
  [ -n "$(compgen -v MTORL_RAW_)" ] || export MTORL_DATASETS="${MTORL_DATASETS:-$DATASET}"
  service_environment
  "$PYTHON_BIN" -m bin.embedded_airflow.service check
  migrate_airflow_database "$AIRFLOW_HOME/setup.log"
  # One slot: two trainings would share the memory of one GPU.
  airflow pools set gpu 1 "one training at a time" >>"$AIRFLOW_HOME/setup.log" 2>&1 ||
    die "the pool 'gpu' cannot be created: see $AIRFLOW_HOME/setup.log"
  "$PYTHON_BIN" -m bin.embedded_airflow.service up
  printf '%s' "$MTORL_LAKE" >"$AIRFLOW_HOME/lake"
  say "alerts: ${MTORL_ALERTS:-$AIRFLOW_HOME/alerts.log}"
}

backfill_days() {
  AIRFLOW_HOME="$SERVICE_HOME" "$PYTHON_BIN" -m bin.embedded_airflow.backfill "$DATASET" "$1" "$2"
}

# Set FIRST to the first day of the service's lake, and STALE_FROM and STALE_TO to the range of days that need work;
# both are empty if no day needs work.
find_stale_days() {
  local days
  days="$("$PYTHON_BIN" -m jobs.status --dataset "$DATASET" --lake "$(cat "$SERVICE_HOME/lake")" --todo)" || exit $?
  read -r FIRST STALE_FROM STALE_TO <<<"$days"
}

backfill() {
  # Checked before set-up, which may take minutes.
  if [ -z "${FROM:-}" ] || [ -z "${TO:-}" ]; then
    [ -z "${FROM:-}${TO:-}" ] ||
      die "make backfill needs FROM=YYYY-MM-DD and TO=YYYY-MM-DD, or neither to run what is stale"
    [ -z "${AIRFLOW_URL:-}" ] ||
      die "make backfill with AIRFLOW_URL needs FROM and TO: which days are stale in that lake is not known here"
  fi
  "$ROOT/bin/setup.sh"
  export PYTHONPATH="$ROOT"
  "$PYTHON_BIN" -m bin.check_input dataset "$DATASET"
  [ -z "${METHOD:-}" ] || "$PYTHON_BIN" -m bin.check_input methods "$METHOD"
  if [ -n "${FROM:-}" ]; then
    backfill_days "$FROM" "$TO"
    return
  fi
  [ -s "$SERVICE_HOME/lake" ] || die "Airflow is not running: start it with make up"
  # Whichever day runs first takes note of all changed raw files, and only then is it known which days depend on them.
  # Run the first day for it. The model would learn the last day before the missing days, and then skip these.
  find_stale_days
  backfill_days "$FIRST" "$FIRST"
  find_stale_days
  if [ -n "$STALE_FROM" ]; then backfill_days "$STALE_FROM" "$STALE_TO"; fi
}

case "$1" in
  up) up ;;
  down)
    # Without a virtual environment, nothing was ever started.
    [ -x "$PYTHON_BIN" ] || exit 0
    export AIRFLOW_HOME="$SERVICE_HOME" PYTHONPATH="$ROOT"
    "$PYTHON_BIN" -m bin.embedded_airflow.service down
    ;;
  backfill) backfill ;;
esac
