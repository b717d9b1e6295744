#!/usr/bin/env bash
# make run: from a raw log to policies and ranks, in an embedded Airflow.
# Reads DATASET, RAW, LAKE, FROM, TO, PRESET, USERS from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
PRESET="${PRESET:-small}"
# Made-up users have a lake of their own, so that they never stand in the journeys of real ones.
[ -n "${RAW:-}" ] && DEFAULT_LAKE="$ROOT/lake" || DEFAULT_LAKE="$ROOT/lake/generated"
LAKE="$(realpath -m -- "${LAKE:-$DEFAULT_LAKE}")"

case "$PRESET" in small | paper) ;; *) die "PRESET is small or paper, not '$PRESET'" ;; esac
case "${USERS:-1}" in *[!0-9]* | 0*) die "USERS is a number of users, not '$USERS'" ;; esac

"$ROOT/bin/setup.sh"
step_environment
check_dataset "$DATASET"

MEMBERS=()
if [ -z "${RAW:-}" ]; then
  case "$DATASET" in
    kuairand*) ;;
    *) die "DATASET=$DATASET needs RAW=<folder of its log>: only a kuairand log can be generated" ;;
  esac
  RAW="$ROOT/raw/generated${USERS:+-$USERS}"
  MEMBERS=(members 1) # one model shows the way; real logs get the preset's
  if [ ! -d "$RAW" ]; then
    say "generating a small log in the KuaiRand layout: $RAW"
    rm -rf -- "$RAW.partial"
    mkdir -p -- "$ROOT/raw"
    "$PYTHON_BIN" -m jobs.generate_log --layout kuairand --out "$RAW.partial" --users "${USERS:-1000}"
    mv -T -- "$RAW.partial" "$RAW"
  fi
  small_days "$RAW"
fi
RAW="$(realpath -m -- "$RAW")"

say "looking up which days the log has: $RAW"
find_log_days "$DATASET" "$RAW"
FROM="${FROM:-$FIRST}"
TO="${TO:-$LAST}"
"$PYTHON_BIN" -c '
import sys
from schemas.errors import exit_with_one_line
from schemas.days import days_between
exit_with_one_line(lambda: days_between(*sys.argv[1:]))' "$FROM" "$TO"
for day in "$FROM" "$TO"; do
  if [[ "$day" < "$FIRST" || "$day" > "$LAST" ]]; then
    die "$day lies outside the log, which has the days $FIRST to $LAST"
  fi
done

{ mkdir -p -- "$LAKE" && exec 9>"$LAKE/.lock"; } 2>/dev/null ||
  die "cannot write to the lake $LAKE: choose another folder with LAKE="
flock --nonblock 9 || die "another make run is working on the lake $LAKE: wait for it, or choose another with LAKE="

# A home for each lake, so that runs on different lakes do not share a database; `make up` has its own.
airflow_environment "$ROOT/.airflow/run-$(printf '%s' "$LAKE" | sha256sum | cut -c 1-12)"
export MTORL_DEADLINE_HOURS=0 # nobody waits for a schedule here
LOG="$AIRFLOW_HOME/run.log"
airflow_database "$LOG"
: >"$LOG"

# run_dag NAME KEY VALUE...: run one DAG here and now, with these parameters.
run_dag() {
  local dag="mtorl_$1_$DATASET" conf
  shift
  conf="$("$PYTHON_BIN" -c '
import json, sys
values = (int(value) if value.isdecimal() else value for value in sys.argv[2::2])
print(json.dumps(dict(zip(sys.argv[1::2], values))))' "$@")"
  say "$dag"
  airflow dags test "$dag" --conf "$conf" 2>&1 | "$PYTHON_BIN" "$ROOT/bin/progress.py" "$LOG" || {
    printf 'the whole story: %s\n' "$LOG" >&2
    exit 1
  }
}

say "$DATASET, $FROM to $TO, from $RAW into $LAKE"
run_dag history raw "$RAW" lake "$LAKE" from "$FROM" to "$TO" preset "$PRESET" "${MEMBERS[@]}"
run_dag nightly lake "$LAKE" date "$TO"
run_dag report lake "$LAKE" date "$TO"
# The index shows the trend over all days of the log.
run_step "$LOG" measure_drift \
  "$PYTHON_BIN" -m jobs.measure_drift --dataset "$DATASET" --lake "$LAKE" --from "$FROM" --to "$TO"
"$PYTHON_BIN" -m jobs.report --dataset "$DATASET" --lake "$LAKE" --from "$FROM" --to "$TO" >>"$LOG"
"$PYTHON_BIN" -m jobs.summary --dataset "$DATASET" --lake "$LAKE" --from "$FROM" --to "$TO"
