#!/usr/bin/env bash
# make bench: measures the pipeline against other tools for the same work; writes docs/performance.md.
# Reads ONLY, SIZES and REPEATS from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$ROOT/bin/setup.sh"
# In exactly the pinned versions: figures of different versions cannot be compared.
install_requirements requirements-bench.txt
# The pipeline's own settings, but on two cores and with the memory that the documentation promises.
export SPARK_MASTER="local[2]" MTORL_DRIVER_MEMORY=4g
step_environment
cd "$ROOT"
exec "$PYTHON_BIN" -m benchmarks.run ${ONLY:+--only "$ONLY"} ${SIZES:+--sizes "$SIZES"} ${REPEATS:+--repeats "$REPEATS"}
