#!/usr/bin/env bash
# make rollback: an earlier model is the champion again. Reads DATASET, LAKE and VERSION from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DATASET="${DATASET:-kuairand}"
LAKE="$(realpath -m -- "${LAKE:-$ROOT/lake}")"
[ -d "$LAKE" ] || die "there is no lake $LAKE: name the one whose champion is meant with LAKE="

"$ROOT/bin/setup.sh"
step_environment
exec "$PYTHON_BIN" -m mtorl_model.rollback --dataset "$DATASET" --lake "$LAKE" ${VERSION:+--version="$VERSION"}
