# Sourced by the scripts in bin/: where things are, how they speak, and the environment they share.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
PYTHON_BIN="$VENV/bin/python"

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

# The major version of the Java that Spark would start, or nothing.
java_major() {
  # Not the first line: that may be "Picked up JAVA_TOOL_OPTIONS: ...".
  "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -nE 's/^(java|openjdk) version "([0-9]+).*/\2/p' || true
}

# A quarter of the machine's memory for Spark's driver, 1 to 8 GB.
driver_memory() {
  awk '/^MemTotal/ { gb = int($2 / 4194304); print (gb < 1 ? 1 : gb > 8 ? 8 : gb) "g" }' /proc/meminfo
}

# Where setup keeps Spark's classes as this Java holds them in memory: loading those takes a third of a day's job.
# Nothing where the path has a space: SPARK_SUBMIT_OPTS is cut at spaces, and the classes are loaded as ever.
class_archive() {
  local made_for
  case "$VENV" in *[[:space:]]*) return ;; esac
  made_for="$({ "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version; cat "$VENV/.installed"; } 2>&1 | sha256sum)"
  printf '%s/spark-%s.jsa' "$VENV" "${made_for:0:12}"
}

# The options by which Java takes the classes from there; nothing where setup could not make the archive.
loaded_classes() {
  local archive
  archive="$(class_archive)"
  # A Java that does not like the archive loads the classes as ever, and need not say so.
  [ ! -s "$archive" ] || printf ' -XX:SharedArchiveFile=%s -Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off' "$archive"
}

# What the entry points and Spark need; without a cluster nothing listens on, or calls, anything but this machine.
step_environment() {
  export PATH="$VENV/bin:$PATH" PYTHONPATH="$ROOT" PYSPARK_PYTHON="$PYTHON_BIN"
  # Spark's own search for its home stumbles over a space in the path.
  SPARK_HOME="$("$PYTHON_BIN" -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')"
  export SPARK_HOME
  export SPARK_MASTER="${SPARK_MASTER:-local[2]}"
  # A day's job is over before Java's last compiler has paid for itself: only what runs for minutes gets it.
  local late="-XX:Tier4InvocationThreshold=60000 -XX:Tier4MinInvocationThreshold=8000"
  late="$late -XX:Tier4CompileThreshold=180000 -XX:Tier4BackEdgeThreshold=500000"
  export SPARK_SUBMIT_OPTS="${SPARK_SUBMIT_OPTS:--XX:+UseSerialGC $late$(loaded_classes)}"
  # Only without a cluster: its executors must be able to reach the driver.
  case "${AIRFLOW_CONN_SPARK:-$SPARK_MASTER}" in
    local | *'local['*) export SPARK_LOCAL_IP="${SPARK_LOCAL_IP:-127.0.0.1}" ;;
  esac
  export MTORL_DRIVER_MEMORY="${MTORL_DRIVER_MEMORY:-$(driver_memory)}"
  set -a
  source "$ROOT/bin/settings.env"
  set +a
}

# A day of a small log ($1: its folder, as it lies there) is over before Java's compilers and Spark's have paid for
# themselves: let them do the least. What runs for minutes, the whole history of such a log already, is slower for it.
small_days() {
  local kilobytes
  kilobytes="$(du -skL -- "$1" | cut -f1)"
  [ "$kilobytes" -ge 262144 ] ||
    SPARK_SUBMIT_OPTS="$SPARK_SUBMIT_OPTS -XX:TieredStopAtLevel=1 -Dspark.sql.codegen.wholeStage=false"
}

# An embedded Airflow in the folder $1.
airflow_environment() {
  step_environment
  export AIRFLOW_HOME="$1"
  export AIRFLOW__CORE__DAGS_FOLDER="$ROOT/dags"
  export AIRFLOW__CORE__EXECUTOR=LocalExecutor AIRFLOW__CORE__PARALLELISM=4
  export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="sqlite:///$AIRFLOW_HOME/airflow.db"
  export AIRFLOW_CONN_SPARK="${AIRFLOW_CONN_SPARK:-{\"conn_type\": \"spark\", \"host\": \"$SPARK_MASTER\"\}}"
  openlineage_environment
  mkdir -p "$AIRFLOW_HOME"
  chmod 700 "$AIRFLOW_HOME"
}

# Airflow's lineage events go to the file OPENLINEAGE, where one is named, and nowhere else.
openlineage_environment() {
  export AIRFLOW__OPENLINEAGE__DISABLED=True
  [ -n "${OPENLINEAGE:-}" ] || return 0
  "$PYTHON_BIN" -c 'import airflow.providers.openlineage' 2>/dev/null ||
    die "OPENLINEAGE needs a package more: .venv/bin/pip install -r requirements-openlineage.txt"
  AIRFLOW__OPENLINEAGE__TRANSPORT="$("$PYTHON_BIN" -c '
import json, os, sys
print(json.dumps({"type": "file", "log_file_path": os.path.abspath(sys.argv[1]), "append": True}))' "$OPENLINEAGE")"
  export AIRFLOW__OPENLINEAGE__DISABLED=False AIRFLOW__OPENLINEAGE__NAMESPACE=mtorl AIRFLOW__OPENLINEAGE__TRANSPORT
}

# Bring the embedded Airflow's database to this version, once: $1 is its log.
airflow_database() {
  local stamp="$AIRFLOW_HOME/.database"
  cmp -s "$VENV/.installed" "$stamp" && return
  airflow db migrate >"$1" 2>&1 || die "Airflow's database cannot be set up: see $1"
  cp "$VENV/.installed" "$stamp"
}

# Fail with one line unless $1 names a dataset.
check_dataset() {
  "$PYTHON_BIN" -c '
import sys
from schemas.dataset import get_dataset
from schemas.errors import exit_with_one_line
exit_with_one_line(lambda: get_dataset(sys.argv[1]))' "$1"
}

# Set FIRST and LAST to the first and last day of the log in folder $2 of dataset $1.
find_log_days() {
  local noise said status=0
  noise="$(mktemp)"
  said="$("$PYTHON_BIN" -m jobs.log_days --dataset "$1" --raw "$2" 2>"$noise")" || status=$?
  # Spark chatters on standard error: of that only the line for people is shown, or all where there is none.
  [ "$status" = 0 ] || grep '^error: ' "$noise" >&2 || cat "$noise" >&2
  rm -f -- "$noise"
  [ "$status" = 0 ] || exit "$status"
  read -r FIRST LAST <<<"$said"
}

# run_step LOG NAME COMMAND...: run a command with its output in LOG; one line on the screen, two where it fails.
run_step() {
  local log="$1" name="$2" start="$SECONDS" reason
  shift 2
  if "$@" >>"$log" 2>&1; then
    printf '  %-24s %4d s\n' "$name" "$((SECONDS - start))"
    return
  fi
  reason="$(grep '^error: ' "$log" | tail -n 1)" || true
  printf '%s\n' "${reason:-error: $name failed}" "the whole story: $log" >&2
  exit 1
}
