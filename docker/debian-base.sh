#!/usr/bin/env bash
# A base image where no registry can be reached: Debian with Python, out of a Debian mirror. Run it as root.
#
#   docker/debian-base.sh [localhost/debian-python:bookworm]
#   make image BASE=localhost/debian-python:bookworm
#
# SUITE        of Debian; MIRROR its mirror, else debootstrap's
# CONTAINER    docker or podman
set -euo pipefail

SUITE=${SUITE:-bookworm}
TAG=${1:-localhost/debian-python:$SUITE}
CONTAINER=${CONTAINER:-$(command -v docker >/dev/null && echo docker || echo podman)}

[ "$(id -u)" = 0 ] || { echo "debian-base: debootstrap must be run as root." >&2; exit 1; }
for program in debootstrap "$CONTAINER"; do
  command -v "$program" >/dev/null || { echo "debian-base: $program is not installed." >&2; exit 1; }
done

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$SUITE" "$root" ${MIRROR:+"$MIRROR"}
# What installed it is not needed in it: packages, lists, logs, and the addresses of this machine's network.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/etc/apt/sources.list "$root"/etc/apt/apt.conf.d/*proxy*
: >"$root/etc/hostname"
: >"$root/etc/resolv.conf"
tar --directory "$root" --numeric-owner --create . \
  | "$CONTAINER" import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$TAG"
