#!/usr/bin/env bash
# make status: a day-by-table grid of a lake. Reads DATASET, LAKE, RAW, FROM and TO from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
LAKE="$(realpath -m -- "${LAKE:-$ROOT/lake}")"
RANGE=()
[ -z "${RAW:-}" ] || RANGE+=(--raw "$(realpath -m -- "$RAW")")
[ -z "${FROM:-}" ] || RANGE+=(--from "$FROM")
[ -z "${TO:-}" ] || RANGE+=(--to "$TO")

"$ROOT/bin/setup.sh"
PYTHONPATH="$ROOT" exec "$PYTHON_BIN" -m jobs.status --dataset "$DATASET" --lake "$LAKE" "${RANGE[@]}"
