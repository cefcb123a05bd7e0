#!/bin/sh
# Install hostmesh on a host from its archive (wheels and units), without any network.
# Usage: install.sh VERSION PYTHON ARCHIVE. Installs beside the running version and switches at the very end.
set -eu
version=$1 python=$2 archive=$3
bundle=$(mktemp -d)
trap 'rm -rf "$bundle" "$archive"' EXIT
tar -xf "$archive" -C "$bundle"
prefix=/opt/hostmesh
target=$prefix/$version
units=/usr/local/lib/systemd/system

rm -rf "$target"
"$python" -m venv --without-pip "$target"
# pip runs from its own wheel: the host needs neither pip nor ensurepip. Every wheel is here, so nothing is resolved.
pip=$(ls "$bundle"/wheels/pip-*.whl)
"$target/bin/python" "$pip/pip" install --quiet --no-index --no-deps --no-compile --no-cache-dir \
  --disable-pip-version-check --root-user-action ignore \
  $(find "$bundle/wheels" -name '*.whl' ! -name 'pip-*')
# Compiled now, on all cores: the daemons may not write here later.
"$target/bin/python" -m compileall -q -j 0 "$target/lib"

install -d -m 0755 /etc/hostmesh /etc/hostmesh/conf.d /etc/hostmesh/workloads.d "$units" /etc/sysusers.d \
  /etc/sysctl.d
# The agent takes a new version over by a reload, which drops no connection; a changed unit file needs a restart.
agent=try-reload-or-restart
cmp -s "$bundle/systemd/hostmesh-agent.service" "$units/hostmesh-agent.service" || agent=try-restart
install -m 0644 "$bundle"/systemd/*.service "$bundle"/systemd/*.socket "$units/"
install -m 0644 "$bundle/systemd/hostmesh.sysusers" /etc/sysusers.d/hostmesh.conf
install -m 0644 "$bundle/systemd/hostmesh.sysctl" /etc/sysctl.d/60-hostmesh.conf
systemd-sysusers /etc/sysusers.d/hostmesh.conf
install -d -m 0700 -o hostmesh-agent -g hostmesh-agent /var/lib/hostmesh
# `hostmesh apply` writes here, through the control plane.
install -d -m 0755 -o hostmesh-cp -g hostmesh /etc/hostmesh/documents
sysctl --quiet --load /etc/sysctl.d/60-hostmesh.conf

touch "$target/.complete"
previous=$(readlink "$prefix/current" || true)
ln -sfn "$version" "$prefix/current.new"
mv -T "$prefix/current.new" "$prefix/current"
install -d -m 0755 /usr/local/bin
ln -sfn "$prefix/current/bin/hostmesh" /usr/local/bin/hostmesh
systemctl daemon-reload
# The version before stays, to go back to.
find "$prefix" -mindepth 1 -maxdepth 1 -type d ! -name "$version" ! -name "${previous:-none}" -exec rm -rf {} +
# What runs now goes on with the new version, as after the upgrade of any package.
systemctl try-restart hostmesh-control-plane.service hostmesh-netns.service
systemctl "$agent" hostmesh-agent.service
