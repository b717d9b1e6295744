#!/usr/bin/env bash
# make study, make search, make results and make benchmark-published: studies of the model on the sequences of a lake.
# They train models of their own and leave the tables and the champion as they are.
# Reads DATASET, LAKE, STUDY, FOLDS, SEEDS, WORKERS, EPOCHS, TRIALS, HIDDEN, PRESET, WINDOWS, SEED and OUT from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WHAT="$1"
DATASET="${DATASET:-kuairand}"
LAKE="$(realpath -m -- "${LAKE:-$ROOT/lake}")"
[ -d "$LAKE" ] || die "there is no lake $LAKE: fill one first (make run), or name another with LAKE="

"$ROOT/bin/setup.sh"
step_environment
check_dataset "$DATASET"
ON=(--dataset "$DATASET" --lake "$LAKE")
case "$WHAT" in
  published) OUT="${OUT:-$LAKE/studies/dataset=$DATASET/published.json}" ;;
  results) OUT="${OUT:-$ROOT/docs/results.md}" ;;
esac
OUT="${OUT:+$(realpath -m -- "$OUT")}"
EPOCHS_OPTION=(${EPOCHS:+--max-epochs "$EPOCHS"})

case "$WHAT" in
  study)
    [ -n "${STUDY:-}" ] || die "say which study: STUDY=ablation, departures, steps, lambda or mu"
    exec "$PYTHON_BIN" -m mtorl_model.studies.run "${ON[@]}" --study "$STUDY" ${WORKERS:+--workers "$WORKERS"} \
      --folds "${FOLDS:-2}" --seeds "${SEEDS:-1}" "${EPOCHS_OPTION[@]}"
    ;;
  search)
    exec "$PYTHON_BIN" -m mtorl_model.studies.search "${ON[@]}" --trials "${TRIALS:-30}" \
      ${HIDDEN:+--hidden-at-most "$HIDDEN"} "${EPOCHS_OPTION[@]}"
    ;;
  results)
    exec "$PYTHON_BIN" -m mtorl_model.studies.results --lake "$LAKE" --out "$OUT"
    ;;
  published)
    exec "$PYTHON_BIN" -m mtorl_model.studies.published "${ON[@]}" --out "$OUT" "${EPOCHS_OPTION[@]}" \
      ${WINDOWS:+--windows "$WINDOWS"} ${PRESET:+--preset "$PRESET"} ${SEED:+--seed "$SEED"}
    ;;
esac
