#!/usr/bin/env bash
# Writes new secrets for a cluster: docker/make-env.sh [FILE=docker/.env]. Refuses to replace a file that exists.
set -euo pipefail

FILE="${1:-$(dirname "${BASH_SOURCE[0]}")/.env}"
[ ! -e "$FILE" ] || { printf 'error: %s exists: remove it to get new secrets\n' "$FILE" >&2; exit 2; }

# Hexadecimal, because some secrets are part of URLs.
secret() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

umask 077
{
  for name in POSTGRES_PASSWORD REDIS_PASSWORD AIRFLOW_JWT_SECRET AIRFLOW_SECRET_KEY AIRFLOW_ADMIN_PASSWORD; do
    printf '%s=%s\n' "$name" "$(secret)"
  done
  printf 'AIRFLOW_FERNET_KEY=%s\n' "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
  access_key="$(secret)" secret_key="$(secret)"
  printf '# The service s3.\nS3_ACCESS_KEY_ID=%s\nS3_SECRET_ACCESS_KEY=%s\n' "$access_key" "$secret_key"
  printf '# The store of lake, raw logs and models: the service s3. For another store see docs/deploy.md.\n'
  printf 'AWS_ENDPOINT_URL=http://s3:8333\nAWS_DEFAULT_REGION=us-east-1\n'
  printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$access_key" "$secret_key"
} >"$FILE.$$"
mv -- "$FILE.$$" "$FILE"
