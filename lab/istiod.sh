#!/bin/bash
# Build what is Istio's own, once, with Go: its control plane, the API server of Kubernetes that this reads, the definitions
# of the documents, and its HBONE. Argument: the directory for all of it. Four GB of sources and objects, ten minutes.
set -euo pipefail
istio=v0.0.0-20260827124520-eed52ebb66ad
kubernetes=v1.36.3
gateway_api=v1.6.0
here=$(realpath "$(dirname "$0")")
target=$(realpath -m "$1")
made="$target/$istio-$kubernetes-$gateway_api"
[ "$made" -nt "$here/../tests/istiod/hbone/main.go" ] && exit 0
export PATH=$PATH:/usr/local/go/bin GOFLAGS=-mod=mod
command -v go >/dev/null || { echo "istiod: wants Go 1.26 or newer to be built; install it and try again"; exit 1; }
mkdir -p "$target/work" && cd "$target/work"

echo "istiod: building pilot-discovery"
GOBIN=$target GOFLAGS= go install istio.io/istio/pilot/cmd/pilot-discovery@$istio

echo "istiod: building kube-apiserver"
cat >main.go <<'GO'
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
GO
source_of() { go mod download -json "$1" | sed -nE 's/^\s*"Dir": "(.*)",?/\1/p'; }
rm -f go.mod go.sum
go mod init istiod 2>/dev/null
go mod edit -go=1.26.0 -require=k8s.io/kubernetes@$kubernetes
# Kubernetes names its own parts by folders of its repository; here they are modules like all others.
sed -nE 's/^\s*(\S+) => \.\/staging.*/\1/p' "$(source_of k8s.io/kubernetes@$kubernetes)/go.mod" |
  while read -r part; do go mod edit -replace="$part=$part@v0${kubernetes#v1}"; done
go mod tidy
go build -o "$target/kube-apiserver" .

echo "istiod: building Istio's own HBONE"
rm -f go.mod go.sum && cp "$here/../tests/istiod/hbone/main.go" .
go mod init hbone 2>/dev/null
go mod edit -require=istio.io/istio@$istio
go build -o "$target/hbone" .

cp "$(source_of istio.io/istio@$istio)/manifests/charts/base/files/crd-all.gen.yaml" "$target/istio.yaml"
cp "$(source_of sigs.k8s.io/gateway-api@$gateway_api)"/config/crd/experimental/gateway.networking.k8s.io_*.yaml "$target/"
chmod u+w "$target"/*.yaml
rm -rf "$target/work"
touch "$made"
