#!/usr/bin/env bash
# make benchmark-published: the paper's protocol on the sequences of a lake. Trains a model of its own and leaves the
# lake as it is. Reads DATASET, LAKE and OUT from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
LAKE="$(realpath -m -- "${LAKE:-$ROOT/lake}")"
OUT="$(realpath -m -- "${OUT:-published.json}")"
[ -d "$LAKE" ] || die "there is no lake $LAKE: fill one first (make run), or name another with LAKE="

"$ROOT/bin/setup.sh"
step_environment
check_dataset "$DATASET"
exec "$PYTHON_BIN" -m mtorl_model.benchmark_published --dataset "$DATASET" --lake "$LAKE" --out "$OUT"
