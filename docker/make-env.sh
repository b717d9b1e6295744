#!/usr/bin/env bash
# Make the secrets of a cluster: docker/make-env.sh [FILE=docker/.env]. A file that is there is left as it is.
set -euo pipefail

FILE="${1:-$(dirname "${BASH_SOURCE[0]}")/.env}"
[ ! -e "$FILE" ] || { printf 'error: %s is there already: remove it for new secrets\n' "$FILE" >&2; exit 2; }

umask 077
{
  for name in POSTGRES_PASSWORD REDIS_PASSWORD AIRFLOW_JWT_SECRET AIRFLOW_SECRET_KEY AIRFLOW_ADMIN_PASSWORD; do
    # Hexadecimal: it stands in URLs.
    printf '%s=%s\n' "$name" "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
  done
  printf 'AIRFLOW_FERNET_KEY=%s\n' "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
} >"$FILE.$$"
mv -- "$FILE.$$" "$FILE"
