#!/usr/bin/env bash
# make evaluate: the champion of a lake on the raw log of users that it has never seen. Trains nothing and
# does not change the lake. Without RAW: on the held-out users
# of the lake. Reads DATASET, RAW, LAKE, METHOD and OUT from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
LAKE="$(lake_location "${LAKE:-$ROOT/lake}")"
OUT="$(realpath -m -- "${OUT:-metrics.json}")"

METHOD="${METHOD:-mtorl}"
is_uri "$LAKE" || [ -d "$LAKE" ] || die "there is no lake $LAKE: train a champion first (make run), or name another with LAKE="
[ -d "$(dirname "$OUT")" ] || die "the folder of OUT=$OUT does not exist"

"$ROOT/bin/setup.sh"
step_environment
store_packages "$LAKE" "${RAW:-}"
"$PYTHON_BIN" -m bin.check_input methods "$METHOD"
if [ -z "${RAW:-}" ]; then
  say "evaluating the champion of $LAKE on its held-out users"
  exec "$PYTHON_BIN" -m mtorl_model.evaluate --dataset "$DATASET" --lake "$LAKE" --method "$METHOD" --split test --out "$OUT"
fi
RAW="$(location "$RAW")"
find_log_days "$DATASET" "$RAW"

SCRATCH="$(mktemp -d)"
trap 'rm -rf -- "$SCRATCH"' EXIT
mkdir -p "$ROOT/.airflow"
LOG="$ROOT/.airflow/evaluate.log"
: >"$LOG"

say "evaluating the champion of $LAKE on $RAW, $FIRST to $LAST"
run_step "$LOG" build_tables spark-submit --master "$SPARK_MASTER" --driver-memory "$MTORL_DRIVER_MEMORY" \
  --conf spark.ui.enabled=false --conf "spark.executorEnv.PYTHONPATH=$ROOT" \
  "$ROOT/jobs/build_tables.py" --dataset "$DATASET" --raw "$RAW" \
  --lake "$SCRATCH/lake" --from "$FIRST" --to "$LAST"
LINES_BEFORE="$(wc -l <"$LOG")"
run_step "$LOG" evaluate "$PYTHON_BIN" -m mtorl_model.evaluate --dataset "$DATASET" --lake "$LAKE" \
  --method "$METHOD" --sequences "$SCRATCH/lake" --out "$OUT"
tail -n "+$((LINES_BEFORE + 1))" -- "$LOG" # the table of figures that this step has printed
say "the figures as JSON: $OUT"
