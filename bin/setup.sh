#!/usr/bin/env bash
# Sets up what is missing: the virtual environment with the pinned packages, and Java for Spark.
# Does nothing where all is there; a run that was killed is taken up again.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MINIMUM="3.11"
LOG="$VENV/setup.log"

# The first Python that is new enough and can make virtual environments; 3.11 is what the pins were tried on.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  local found
  found="$(python3 --version 2>&1)" || found="none"
  die "Python $MINIMUM or newer with its venv module is needed (found: $found):" \
    "install it (Debian, Ubuntu: apt-get install python3 python3-venv), or name one with PYTHON="
}

# The version and the place of the virtual environment's Python; nothing where it does not start.
version_and_place() {
  "$PYTHON_BIN" -c 'import os, sys; print(*sys.version_info[:2], os.path.realpath(sys.prefix))' 2>/dev/null || true
}

install_packages() {
  local wanted python found
  found="$(version_and_place)"
  # Made elsewhere or by another Python it is of no use: its scripts and packages name both.
  if [ -z "$found" ] || [ "$(cat "$VENV/.made" 2>/dev/null)" != "$found" ]; then
    [ ! -L "$VENV" ] || die "$VENV is a link to an environment that was not made here: remove the link"
    python="$(find_python)"
    "$python" -m venv --clear "$VENV" || die "cannot make a virtual environment in $VENV"
    version_and_place >"$VENV/.made"
  fi
  wanted="$(sha256sum <"$ROOT/requirements.txt")"
  [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ] && return
  say "setup: installing the pinned packages into .venv (some minutes the first time)"
  "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements.txt" >"$LOG" 2>&1 ||
    die "the packages cannot be installed: $(grep -m 1 '^ERROR' "$LOG" || echo "no reason given") (see $LOG)"
  printf '%s\n' "$wanted" >"$VENV/.installed"
}

java_fits() { case "$(java_major)" in 17 | 21) ;; *) return 1 ;; esac; }

install_java() {
  java_fits && return
  local found package
  found="$(java_major)"
  if [ -z "${JAVA_HOME:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "setup: installing Java"
    apt-get update >>"$LOG" 2>&1 || true
    for package in openjdk-17-jre-headless openjdk-21-jre-headless; do
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>"$LOG" 2>&1 && break
    done
  fi
  java_fits || die "Spark needs Java 17 or 21 (found: ${found:-none}):" \
    "install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) and point JAVA_HOME at it"
}

keep_classes() {
  local archive
  archive="$(class_archive)"
  [ -n "$archive" ] && [ ! -e "$archive" ] || return 0
  say "setup: keeping Spark's classes for quick starts"
  rm -f -- "$VENV"/spark-*.jsa
  step_environment
  # Written beside its place first: half an archive would be taken for one.
  if SPARK_SUBMIT_OPTS="-XX:+UseSerialGC -XX:ArchiveClassesAtExit=$archive.new" SPARK_MASTER='local[2]' \
    spark-submit --conf spark.ui.enabled=false "$ROOT/jobs/spark/load_spark_classes.py" >>"$LOG" 2>&1; then
    mv -- "$archive.new" "$archive"
  else
    say "warning: Spark's classes cannot be kept, so its jobs start more slowly: see $LOG"
    : >"$archive" # not tried at every command
  fi
}

mkdir -p "$VENV" || die "cannot write to $ROOT"
exec 9<"$ROOT" # not a file in .venv, which may be made anew
flock 9
install_packages
install_java
keep_classes
