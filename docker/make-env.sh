#!/usr/bin/env bash
# Writes new secrets for a cluster: docker/make-env.sh [FILE=docker/.env]. Refuses to replace a file that exists.
set -euo pipefail

FILE="${1:-$(dirname "${BASH_SOURCE[0]}")/.env}"
[ ! -e "$FILE" ] || { printf 'error: %s exists: remove it to get new secrets\n' "$FILE" >&2; exit 2; }

umask 077
{
  for name in POSTGRES_PASSWORD REDIS_PASSWORD AIRFLOW_JWT_SECRET AIRFLOW_SECRET_KEY AIRFLOW_ADMIN_PASSWORD \
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    # Hexadecimal, because some of them are part of URLs.
    printf '%s=%s\n' "$name" "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
  done
  printf 'AIRFLOW_FERNET_KEY=%s\n' "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
} >"$FILE.$$"
mv -- "$FILE.$$" "$FILE"
