#!/usr/bin/env bash
# Installs Debian's Chromium, in which some tests open pages, if this user may. Without it those tests are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ ! -x /usr/bin/chromium ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
say "setup: installing Chromium, in which some tests open pages"
LOG="$VENV/browser.log"
{
  timeout 120 apt-get update || true
  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y --no-install-recommends chromium
} >"$LOG" 2>&1 || say "warning: Chromium cannot be installed, so the tests that need it are skipped: see $LOG"
