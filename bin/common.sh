# Sourced by the scripts in bin/: the project's folders, messages, and the environment that all programs share.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
PYTHON_BIN="$VENV/bin/python"

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

# The major version of the Java that Spark would start, or nothing.
java_major() {
  # Not just the first line, which may be "Picked up JAVA_TOOL_OPTIONS: ...".
  "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -nE 's/^(java|openjdk) version "([0-9]+).*/\2/p' || true
}

# A quarter of the machine's memory for Spark's driver, 1 to 8 GB.
driver_memory() {
  awk '/^MemTotal/ { gb = int($2 / 4194304); print (gb < 1 ? 1 : gb > 8 ? 8 : gb) "g" }' /proc/meminfo
}

# The file of setup's archive of Spark's loaded classes. Without the archive, loading them takes a third of a day's job.
# Each version of Java and of the packages has its own. Prints nothing if the path has a space, because Spark splits
# SPARK_SUBMIT_OPTS at spaces; Java then works without an archive.
class_archive() {
  local versions_hash
  case "$VENV" in *[[:space:]]*) return ;; esac
  versions_hash="$({ "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version; cat "$VENV/.installed"; } 2>&1 | sha256sum)"
  printf '%s/spark-%s.jsa' "$VENV" "${versions_hash:0:12}"
}

# The options by which Java uses that archive; nothing if setup could not make it.
class_archive_options() {
  local archive
  archive="$(class_archive)"
  # The -Xlog options silence a Java that refuses the archive: it loads the classes as usual.
  [ ! -s "$archive" ] || printf ' -XX:SharedArchiveFile=%s -Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off' "$archive"
}

# The environment of the entry points and of Spark. Without a cluster, all connections stay on this machine.
step_environment() {
  export PATH="$VENV/bin:$PATH" PYTHONPATH="$ROOT" PYSPARK_PYTHON="$PYTHON_BIN"
  # Spark's own search for its home fails if the path has a space.
  local spark_homes=("$VENV"/lib/python3*/site-packages/pyspark)
  export SPARK_HOME="${spark_homes[0]}"
  export SPARK_MASTER="${SPARK_MASTER:-local[2]}"
  # Java only moves blocks of bytes, so the work of its optimising compiler does not pay off.
  export SPARK_SUBMIT_OPTS="${SPARK_SUBMIT_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1$(class_archive_options)}"
  # Only without a cluster: its executors must be able to reach the driver.
  case "${AIRFLOW_CONN_SPARK:-$SPARK_MASTER}" in
    local | *'local['*) export SPARK_LOCAL_IP="${SPARK_LOCAL_IP:-127.0.0.1}" ;;
  esac
  export MTORL_DRIVER_MEMORY="${MTORL_DRIVER_MEMORY:-$(driver_memory)}"
  # Threads that wait for each other sleep. If other programs use the machine, spinning takes several times the work.
  export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
  set -a
  source "$ROOT/bin/settings.env"
  set +a
}

# location TEXT: the place of a lake or a raw log. A URI (s3://bucket/folder) is not changed, a path becomes absolute.
location() { if is_uri "$1"; then printf '%s' "${1%/}"; else realpath -m -- "$1"; fi; }

is_uri() { case "$1" in *://*) ;; *) return 1 ;; esac; }

# lake_location TEXT: the location of a lake. A lake in an object store needs an MLflow server, because MLflow's SQLite
# database needs a disk.
lake_location() {
  ! is_uri "$1" || [ -n "${MLFLOW_TRACKING_URI:-}" ] ||
    die "the lake $1 needs an MLflow server for its models: name it with MLFLOW_TRACKING_URI (docs/deploy.md)"
  location "$1"
}

# store_packages LOCATION...: install the package by which these are read and written, if one is in an object store.
store_packages() {
  local place
  for place; do
    case "$place" in s3://*) install_requirements requirements-s3.txt && return ;; esac
  done
}

# airflow_environment FOLDER: an embedded Airflow that keeps its state in FOLDER.
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

# Airflow sends its lineage events only to the file OPENLINEAGE, if it is named.
openlineage_environment() {
  export AIRFLOW__OPENLINEAGE__DISABLED=True
  [ -n "${OPENLINEAGE:-}" ] || return 0
  AIRFLOW__OPENLINEAGE__TRANSPORT="$("$PYTHON_BIN" -m bin.embedded_airflow.openlineage "$OPENLINEAGE")"
  export AIRFLOW__OPENLINEAGE__DISABLED=False AIRFLOW__OPENLINEAGE__NAMESPACE=mtorl AIRFLOW__OPENLINEAGE__TRANSPORT
}

# migrate_airflow_database LOG: create the embedded Airflow's database, or bring it to the installed version.
migrate_airflow_database() {
  local version_file="$AIRFLOW_HOME/.database"
  cmp -s "$VENV/.installed" "$version_file" && return
  airflow db migrate >"$1" 2>&1 || die "Airflow's database cannot be set up: see $1"
  cp "$VENV/.installed" "$version_file"
}

# install_requirements FILE: install the pinned packages of another requirements file, if they are not installed.
install_requirements() {
  local mark="$VENV/.installed-$1" wanted
  wanted="$(cat "$VENV/.installed" "$ROOT/$1" | sha256sum)"
  [ "$(cat "$mark" 2>/dev/null)" = "$wanted" ] && return
  "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check -r "$ROOT/$1" ||
    die "the packages of $1 cannot be installed: see the lines above, or try .venv/bin/pip install -r $1"
  printf '%s\n' "$wanted" >"$mark"
}

# find_log_days DATASET FOLDER: set FIRST and LAST to the first and last day of the raw log in FOLDER that have come;
# with ACCEPT_FEW_ROWS=1, days with few rows have come as well.
find_log_days() {
  local messages days status=0
  messages="$(mktemp)"
  local few_rows=()
  [ "${ACCEPT_FEW_ROWS:-}" != 1 ] || few_rows=(--accept-few-rows)
  days="$("$PYTHON_BIN" -m jobs.log_days --dataset "$1" --raw "$2" "${few_rows[@]}" 2>"$messages")" || status=$?
  # Spark writes much to standard error: show only our error line, or everything if we printed no such line.
  [ "$status" = 0 ] || grep '^error: ' "$messages" >&2 || cat "$messages" >&2
  [ "$status" != 0 ] || grep '^note: ' "$messages" || true
  rm -f -- "$messages"
  [ "$status" = 0 ] || exit "$status"
  read -r FIRST LAST <<<"$days"
}

# run_step LOG NAME COMMAND...: run a command with its output in LOG. Prints one line, two where it fails.
run_step() {
  local log="$1" name="$2" start="$SECONDS" reason
  shift 2
  if "$@" >>"$log" 2>&1; then
    printf '  %-24s %4d s\n' "$name" "$((SECONDS - start))"
    return
  fi
  reason="$(grep '^error: ' "$log" | tail -n 1)" || true
  printf '%s\n' "${reason:-error: $name failed}" "full log: $log" >&2
  exit 1
}
