#!/usr/bin/env bash
# make status, make report, make verify, make maintain, make rollback: look at a lake, check it, tidy it up, or change
# its champion. Reads DATASET, LAKE, RAW, DS, FROM, TO, METHOD, VERSION, REPAIR and DRY_RUN from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

COMMAND="$1"
LAKE="$(location "${LAKE:-$ROOT/lake}")"
ARGUMENTS=(--dataset "${DATASET:-kuairand}" --lake "$LAKE")
DAYS=(${FROM:+--from "$FROM"} ${TO:+--to "$TO"})
[ "$COMMAND" != rollback ] || is_uri "$LAKE" || [ -d "$LAKE" ] ||
  die "there is no lake $LAKE: name the lake whose champion you mean with LAKE="

"$ROOT/bin/setup.sh"
store_packages "$LAKE" "${RAW:-}"
export PYTHONPATH="$ROOT"
case "$COMMAND" in
  status)
    [ -z "${RAW:-}" ] || ARGUMENTS+=(--raw "$(location "$RAW")")
    exec "$PYTHON_BIN" -m jobs.status "${ARGUMENTS[@]}" "${DAYS[@]}"
    ;;
  report)
    exec "$PYTHON_BIN" -m jobs.report "${ARGUMENTS[@]}" ${DS:+--day "$DS"} "${DAYS[@]}"
    ;;
  verify)
    repair=()
    [ "${REPAIR:-}" != 1 ] || repair=(--repair)
    exec "$PYTHON_BIN" -m jobs.verify "${ARGUMENTS[@]}" "${repair[@]}"
    ;;
  maintain)
    dry_run=()
    [ "${DRY_RUN:-}" != 1 ] || dry_run=(--dry-run)
    shopt -s nullglob
    step_environment
    "$PYTHON_BIN" -m jobs.maintain "${ARGUMENTS[@]}" "${dry_run[@]}" --airflow-logs "$ROOT"/.airflow/*/logs
    exec "$PYTHON_BIN" -m mtorl_model.expire_models "${ARGUMENTS[@]}" "${dry_run[@]}"
    ;;
  rollback)
    step_environment
    exec "$PYTHON_BIN" -m mtorl_model.rollback "${ARGUMENTS[@]}" ${METHOD:+--method="$METHOD"} ${VERSION:+--version="$VERSION"}
    ;;
esac
