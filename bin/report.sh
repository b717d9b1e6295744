#!/usr/bin/env bash
# make report: the page of a day, or of a range of days, and the index. Reads DATASET, LAKE, DS, FROM and TO from the
# environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
LAKE="$(realpath -m -- "${LAKE:-$ROOT/lake}")"
DAYS=()
[ -z "${DS:-}" ] || DAYS+=(--day "$DS")
[ -z "${FROM:-}" ] || DAYS+=(--from "$FROM")
[ -z "${TO:-}" ] || DAYS+=(--to "$TO")

"$ROOT/bin/setup.sh"
PYTHONPATH="$ROOT" exec "$PYTHON_BIN" -m jobs.report --dataset "$DATASET" --lake "$LAKE" "${DAYS[@]}"
