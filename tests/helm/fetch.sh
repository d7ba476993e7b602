#!/bin/sh
# Puts the helm binary beside this script, built by Go from its module. Without Go the tests say what they miss.
here=$(cd "$(dirname "$0")" && pwd)
version=v3.22.0
[ -x "$here/bin/helm" ] && exit 0
command -v helm >/dev/null && exit 0
command -v go >/dev/null || { echo "no Go: tests that need helm will be skipped" >&2; exit 0; }
echo "penstock: building helm $version ..." >&2
GOBIN="$here/bin" go install "helm.sh/helm/v3/cmd/helm@$version" || echo "helm could not be built" >&2
