#!/bin/sh
# Install hostmesh on a host from its archive (wheels and units), without any network.
# Usage: install.sh VERSION PYTHON ARCHIVE. Installs beside the running version and switches at the very end.
set -eu
version=$1 python=$2 archive=$3
bundle=$(mktemp -d)
trap 'rm -rf "$bundle" "$archive"' EXIT
tar -xf "$archive" -C "$bundle"
target=/opt/hostmesh/$version

rm -rf "$target"
"$python" -m venv --without-pip "$target"
# pip runs from its own wheel: the host needs neither pip nor ensurepip. Every wheel is here, so nothing is resolved;
# one that is not, to the byte, what the archive was made with is refused.
pip=$(ls "$bundle"/wheels/pip-*.whl)
"$target/bin/python" "$pip/pip" install --quiet --no-index --no-deps --no-compile --no-cache-dir --require-hashes \
  --disable-pip-version-check --root-user-action ignore --find-links "$bundle/wheels" \
  --requirement "$bundle/requirements.txt"
# Wheels of a newer distribution than the host's do not load; better to find that before anything has changed.
"$target/bin/python" -c 'import cryptography.x509, hostmesh.daemon.proxy_worker, hostmesh.kernel.systemd, pydantic'
# Compiled now, on all cores: the daemons may not write here later.
"$target/bin/python" -m compileall -q -j 0 "$target/lib"
mkdir "$target/share"
cp -R "$bundle/systemd" "$bundle/requirements.txt" "$bundle/sbom.cdx.json" "$target/share/"
"$target/bin/hostmesh" manual "$target/share/man/man1"
mkdir "$target/share/completions"
for shell in bash zsh fish; do
  "$target/bin/hostmesh" completion "$shell" > "$target/share/completions/$shell"
done
install -m 0755 "$bundle/activate.sh" "$target/activate"
install -m 0755 "$bundle/remove-rules.sh" "$target/remove-rules"
install -m 0755 "$bundle/hold-sockets.sh" "$target/hold-sockets"
# Where SELinux decides what systemd may start, it goes by labels.
if selinuxenabled 2>/dev/null; then restorecon -R /opt/hostmesh; fi
touch "$target/.complete"
# A package is only put together here.
[ -n "${HOSTMESH_STAGE:-}" ] || "$target/activate"
