#!/bin/bash
# Take promtool out of Debian's package of Prometheus, once; the server is not installed. Argument: where it goes.
set -euo pipefail
target=$(realpath -m "$1")
[ -x "$target" ] && exit 0
echo "promtool: fetching"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -q download prometheus
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
install -D usr/bin/promtool "$target"
