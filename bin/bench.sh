#!/usr/bin/env bash
# make bench: what the pipeline costs, beside its peers; writes docs/performance.md.
# Reads ONLY, SIZES and REPEATS from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$ROOT/bin/setup.sh"
PEERS="$ROOT/requirements-bench.txt"
# The pinned version and no other: a figure beside another one is another figure.
grep -qx "polars==$("$PYTHON_BIN" -c 'import polars; print(polars.__version__)' 2>/dev/null)" "$PEERS" ||
  "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$PEERS" ||
  die "the benchmarks' peers cannot be installed: .venv/bin/pip install -r requirements-bench.txt"
# The pipeline's own settings, but on two cores and with the memory that is promised.
export SPARK_MASTER="local[2]" MTORL_DRIVER_MEMORY=4g
step_environment
cd "$ROOT"
exec "$PYTHON_BIN" -m benchmarks.run ${ONLY:+--only "$ONLY"} ${SIZES:+--sizes "$SIZES"} ${REPEATS:+--repeats "$REPEATS"}
