#!/usr/bin/env bash
# Installs an S3 server and its client, with which some tests work. Without them those tests are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

LOG="$VENV/s3_server.log"
"$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements-s3.txt" -r "$ROOT/requirements-s3-server.txt" \
  >"$LOG" 2>&1 || say "warning: the S3 server cannot be installed, so the tests that need it are skipped: see $LOG"
