#!/usr/bin/env bash
# Debian's Chromium for the tests that look at pages, where this user may install it; without it they are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ ! -x /usr/bin/chromium ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
say "setup: installing Chromium, which some tests look at pages with"
LOG="$VENV/browser.log"
{
  timeout 120 apt-get update || true
  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y --no-install-recommends chromium
} >"$LOG" 2>&1 || say "warning: Chromium cannot be installed, so the tests that need it are skipped: see $LOG"
