#!/usr/bin/env bash
# make study, make search, make results, make benchmark-published: studies of the model on the sequences of a lake.
# They train separate models and change neither the tables nor the champion.
# Reads DATASET, LAKE, STUDY, METHOD, METHODS, FOLDS, SEEDS, WORKERS, EPOCHS, TRIALS, HIDDEN, PRESET, WINDOWS, SEED, PROTOCOL, NETWORKS, TABLE_ONLY, PREDICTOR,
# FROM, TO, BUDGET and OUT from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

COMMAND="$1"
DATASET="${DATASET:-kuairand}"
LAKE="$(lake_location "${LAKE:-$ROOT/lake}")"
is_uri "$LAKE" || [ -d "$LAKE" ] || die "there is no lake $LAKE: fill one first (make run), or name another with LAKE="

"$ROOT/bin/setup.sh"
step_environment
store_packages "$LAKE"
"$PYTHON_BIN" -m bin.check_input dataset "$DATASET"
ARGUMENTS=(--dataset "$DATASET" --lake "$LAKE")
EPOCHS_ARGUMENT=(${EPOCHS:+--max-epochs "$EPOCHS"})

case "$COMMAND" in
  study)
    [ -n "${STUDY:-}" ] || die "choose a study: STUDY=ablation, departures, steps, lambda, mu, embeddings, rmtl, fusion, baselines or replay"
    if [ "$STUDY" = embeddings ]; then
      exec "$PYTHON_BIN" -m mtorl_model.studies.embeddings "${ARGUMENTS[@]}" --folds "${FOLDS:-2}" "${EPOCHS_ARGUMENT[@]}"
    fi
    if [ "$STUDY" = rmtl ]; then
      exec "$PYTHON_BIN" -m mtorl_model.studies.multitask.study "${ARGUMENTS[@]}" --seeds "${SEEDS:-1}" "${EPOCHS_ARGUMENT[@]}" \
        ${PROTOCOL:+--protocol "$PROTOCOL"} ${PRESET:+--preset "$PRESET"} ${NETWORKS:+--networks $NETWORKS} ${TABLE_ONLY:+--table-only}
    fi
    if [ "$STUDY" = baselines ]; then
      exec "$PYTHON_BIN" -m mtorl_model.studies.baselines.study "${ARGUMENTS[@]}" --folds "${FOLDS:-2}" --seeds "${SEEDS:-2}" \
        --trials "${TRIALS:-10}" "${EPOCHS_ARGUMENT[@]}" ${METHODS:+--methods $METHODS}
    fi
    if [ "$STUDY" = replay ]; then
      [ -n "${FROM:-}" ] && [ -n "${TO:-}" ] && [ -n "${BUDGET:-}" ] ||
        die "STUDY=replay: name the days and the number of exposures, FROM= TO= BUDGET="
      exec "$PYTHON_BIN" -m mtorl_model.studies.baselines.replay "${ARGUMENTS[@]}" --from "$FROM" --to "$TO" --budget "$BUDGET" \
        --seeds "${SEEDS:-3}" "${EPOCHS_ARGUMENT[@]}" ${METHODS:+--methods $METHODS}
    fi
    if [ "$STUDY" = fusion ]; then
      exec "$PYTHON_BIN" -m mtorl_model.studies.fusion.study "${ARGUMENTS[@]}" --seeds "${SEEDS:-1}" ${PRESET:+--preset "$PRESET"} ${PREDICTOR:+--predictor "$PREDICTOR"}
    fi
    exec "$PYTHON_BIN" -m mtorl_model.studies.run "${ARGUMENTS[@]}" --study "$STUDY" ${WORKERS:+--workers "$WORKERS"} \
      --folds "${FOLDS:-2}" --seeds "${SEEDS:-1}" "${EPOCHS_ARGUMENT[@]}"
    ;;
  search)
    exec "$PYTHON_BIN" -m mtorl_model.studies.search "${ARGUMENTS[@]}" --trials "${TRIALS:-30}" \
      ${HIDDEN:+--hidden-at-most "$HIDDEN"} "${EPOCHS_ARGUMENT[@]}"
    ;;
  results)
    OUT="$(realpath -m -- "${OUT:-$ROOT/docs/results.md}")"
    exec "$PYTHON_BIN" -m mtorl_model.studies.results --lake "$LAKE" --out "$OUT"
    ;;
  published)
    METHOD="${METHOD:-mtorl}"
    "$PYTHON_BIN" -m bin.check_input methods "$METHOD"
    [ -z "${OUT:-}" ] || OUT="$(realpath -m -- "$OUT")"
    exec "$PYTHON_BIN" -m mtorl_model.studies.published "${ARGUMENTS[@]}" ${OUT:+--out "$OUT"} "${EPOCHS_ARGUMENT[@]}" \
      ${WINDOWS:+--windows "$WINDOWS"} ${PRESET:+--preset "$PRESET"} ${SEED:+--seed "$SEED"} --method "$METHOD"
    ;;
esac
