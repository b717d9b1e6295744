#!/usr/bin/env bash
# Sets up the missing parts: the virtual environment with the pinned packages, and Java for Spark.
# Changes nothing if all parts exist; continues a set-up that was killed.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MINIMUM="3.11"
LOG="$VENV/setup.log"

# The first Python that is new enough and can make virtual environments. The pins were tested on 3.11.
find_python() {
  local candidate version
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    if "$candidate" "$ROOT/bin/interpreter.py" check "$MINIMUM" 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  version="$(python3 --version 2>&1)" || version="none"
  die "Python $MINIMUM or newer with its venv module is needed (found: $version):" \
    "install it (Debian, Ubuntu: apt-get install python3 python3-venv), or name one with PYTHON="
}

# Version and folder of the virtual environment's Python; empty if it does not start.
python_identity() { "$PYTHON_BIN" "$ROOT/bin/interpreter.py" identity 2>/dev/null || true; }

install_packages() {
  local identity python wanted
  identity="$(python_identity)"
  # An environment that was made elsewhere or by another Python is useless: its scripts and packages name both.
  if [ -z "$identity" ] || [ "$(cat "$VENV/.made" 2>/dev/null)" != "$identity" ]; then
    [ ! -L "$VENV" ] || die "$VENV is a link to an environment that was not made here: remove the link"
    python="$(find_python)"
    "$python" -m venv --clear "$VENV" || die "cannot make a virtual environment in $VENV"
    python_identity >"$VENV/.made"
  fi
  wanted="$(sha256sum <"$ROOT/requirements.txt")"
  [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ] && return
  say "setup: installing the pinned packages into .venv (this takes minutes the first time)"
  "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$ROOT/requirements.txt" >"$LOG" 2>&1 ||
    die "the packages cannot be installed: $(grep -m 1 '^ERROR' "$LOG" || echo "no reason given") (see $LOG)"
  printf '%s\n' "$wanted" >"$VENV/.installed"
}

java_is_suitable() { case "$(java_major)" in 17 | 21) ;; *) return 1 ;; esac; }

install_java() {
  java_is_suitable && return
  local version package
  version="$(java_major)"
  if [ -z "${JAVA_HOME:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "setup: installing Java"
    apt-get update >>"$LOG" 2>&1 || true
    for package in openjdk-17-jre-headless openjdk-21-jre-headless; do
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>"$LOG" 2>&1 && break
    done
  fi
  java_is_suitable || die "Spark needs Java 17 or 21 (found: ${version:-none}):" \
    "install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) and point JAVA_HOME at it"
}

archive_spark_classes() {
  local archive
  archive="$(class_archive)"
  [ -n "$archive" ] && [ ! -e "$archive" ] || return 0
  say "setup: archiving Spark's classes, so that its jobs start faster"
  rm -f -- "$VENV"/spark-*.jsa
  step_environment
  # Written under another name first, so that half an archive is never used.
  if SPARK_SUBMIT_OPTS="-XX:+UseSerialGC -XX:ArchiveClassesAtExit=$archive.new" SPARK_MASTER='local[2]' \
    spark-submit --conf spark.ui.enabled=false "$ROOT/jobs/spark/load_spark_classes.py" >>"$LOG" 2>&1; then
    mv -- "$archive.new" "$archive"
  else
    say "warning: Spark's classes cannot be archived, so its jobs start more slowly: see $LOG"
    : >"$archive" # an empty one, so that not every command tries again
  fi
}

mkdir -p "$VENV" || die "cannot write to $ROOT"
exec 9<"$ROOT" # not a file in .venv, which this script may delete
flock 9
install_packages
install_java
archive_spark_classes
