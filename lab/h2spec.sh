#!/bin/bash
# Build h2spec, once, from the versions that tests/interop/h2spec pins. Argument: where the executable goes.
set -euo pipefail
target=$(realpath -m "$1")
cd "$(dirname "$0")/../tests/interop/h2spec"
[ "$target" -nt go.sum ] && exit 0
export PATH=$PATH:/usr/local/go/bin GOTOOLCHAIN=local
if ! command -v go >/dev/null; then
  echo "h2spec: installing Go to build it"
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends golang-go | grep -E '^(Get|Setting up)' || true
fi
echo "h2spec: building"
go build -o "$target" github.com/summerwind/h2spec/cmd/h2spec
touch "$target"
