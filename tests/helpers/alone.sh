#!/bin/sh
# alone.sh HIDDEN VISIBLE... -- COMMAND...: run a command that sees, of the folder HIDDEN, only the folders VISIBLE in it.
# Start it in its own mount namespace: unshare --mount --propagation private sh alone.sh ...
set -eu
hidden="$1"
shift
held="$(mktemp -d -p /tmp)" # outside of HIDDEN, where TMPDIR may be
mount -t tmpfs tmpfs "$held"
visible=0
for folder in "$@"; do
  [ "$folder" != -- ] || break
  mkdir "$held/$visible"
  mount --bind "$folder" "$held/$visible"
  visible=$((visible + 1))
done
mount -t tmpfs -o mode=711 tmpfs "$hidden"
number=0
while [ "$number" -lt "$visible" ]; do
  mkdir -p "$1"
  mount --move "$held/$number" "$1"
  number=$((number + 1))
  shift
done
shift # the --
umount "$held"
rmdir "$held"
exec "$@"
