#!/usr/bin/env bash
# make run: from a raw log to policies and ranks, in an embedded Airflow.
# Reads DATASET, RAW, LAKE, FROM, TO, METHOD, PRESET, USERS, ACCEPT_FEW_ROWS from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
METHOD="${METHOD:-mtorl}"
PRESET="${PRESET:-small}"
# Made-up users have a separate lake, so that they never appear in the journeys of real users.
[ -n "${RAW:-}" ] && DEFAULT_LAKE="$ROOT/lake" || DEFAULT_LAKE="$ROOT/lake/generated"
LAKE="$(lake_location "${LAKE:-$DEFAULT_LAKE}")"

case "$PRESET" in small | paper) ;; *) die "PRESET is small or paper, not '$PRESET'" ;; esac
case "${USERS:-1}" in *[!0-9]* | 0*) die "USERS is a number of users, not '$USERS'" ;; esac

"$ROOT/bin/setup.sh"
step_environment
store_packages "$LAKE" "${RAW:-}"
"$PYTHON_BIN" -m bin.check_input dataset "$DATASET"
"$PYTHON_BIN" -m bin.check_input methods "$METHOD"

MEMBERS=()
if [ -z "${RAW:-}" ]; then
  case "$DATASET" in
    kuairand*) ;;
    *) die "DATASET=$DATASET needs RAW=<folder of its log>: only a kuairand log can be generated" ;;
  esac
  RAW="$ROOT/raw/generated${USERS:+-$USERS}"
  # One model is enough for a demonstration; real logs get the preset's number.
  case ",$METHOD," in *,mtorl,* | *,rmtl,*) MEMBERS=(members=1) ;; esac
  if [ ! -d "$RAW" ]; then
    say "generating a log in the KuaiRand layout"
    "$PYTHON_BIN" -m jobs.generate_log --layout kuairand --out "$RAW" --users "${USERS:-1000}"
  fi
fi
RAW="$(location "$RAW")"

say "checking the raw log and its days: $RAW"
find_log_days "$DATASET" "$RAW"
FROM="${FROM:-$FIRST}"
TO="${TO:-$LAST}"
"$PYTHON_BIN" -m bin.check_input days "$FROM" "$TO" "$FIRST" "$LAST"

is_uri "$LAKE" || mkdir -p -- "$LAKE" 2>/dev/null ||
  die "cannot write to the lake $LAKE: choose another folder with LAKE="

# One Airflow home per lake, so that runs on different lakes do not share a database. `make up` uses another home.
airflow_environment "$ROOT/.airflow/run-$(printf '%s' "$LAKE" | sha256sum | cut -c 1-12)"
exec 9>"$AIRFLOW_HOME/.lock"
flock --nonblock 9 || die "another make run is working on the lake $LAKE: wait for it, or choose another with LAKE="
export MTORL_DEADLINE_HOURS=0 # nobody waits for a schedule here
export MTORL_DATASETS="$DATASET" # Airflow stores every DAG that it loads, twice for each DAG that it runs
LOG="$AIRFLOW_HOME/run.log"
migrate_airflow_database "$LOG"
: >"$LOG"

say "running $DATASET, $FROM to $TO, into the lake $LAKE"
"$PYTHON_BIN" -m bin.embedded_airflow.run_dags "$LOG" \
  -- "mtorl_history_$DATASET" "tables, a model and its evaluation" \
  raw="$RAW" lake="$LAKE" from="$FROM" to="$TO" method="$METHOD" preset="$PRESET" "${MEMBERS[@]}" \
  -- "mtorl_nightly_$DATASET" "predictions, ranks and the budget plan of $TO" lake="$LAKE" date="$TO" method="$METHOD" \
  -- "mtorl_report_$DATASET" "drift and the report page of $TO" lake="$LAKE" date="$TO" || {
  printf 'full log: %s\n' "$LOG" >&2
  exit 1
}
say "trend over all days: drift and the report pages of $FROM to $TO"
for job in measure_drift report; do
  run_step "$LOG" "$job" "$PYTHON_BIN" -m "jobs.$job" --dataset "$DATASET" --lake "$LAKE" --from "$FROM" --to "$TO"
done
"$PYTHON_BIN" -m jobs.summary --dataset "$DATASET" --lake "$LAKE" --from "$FROM" --to "$TO"
