#!/bin/sh
# Puts Kubernetes' API server, controller manager, scheduler and kubectl, built by Go from their modules, into a cache outside
# the tree: 20 minutes on two processors, once. Without Go the tests say what they miss.
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^require k8s.io\/kubernetes v//p' "$here/go.mod")
cache=${PENSTOCK_TEST_CACHE:-$HOME/.cache/penstock-tests}/kubernetes-$version
programs="kube-apiserver kube-controller-manager kube-scheduler kubectl"

# The types of objects that are other projects', which their operators bring along.
types() { # a name, a module at a version, the folder in it, what the files' names end in
  [ -d "$cache/types/$1" ] && return
  found=$(go mod download -json "$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -n "$found" ] && mkdir -p "$cache/types/$1" && cp "$found/$3"/*$4.yaml "$cache/types/$1/" && chmod u+w "$cache/types/$1"/*
}

# KEDA's operator, which has many clouds in it, and so a module of its own that is made here: 15 minutes, once.
keda() {
  [ -x "$cache/keda-operator" ] && return
  echo "penstock: building KEDA's operator ..." >&2
  module=$(mktemp -d)
  printf 'module keda\ngo 1.26.0\nrequire github.com/kedacore/keda/v2 v2.21.0\n' >"$module/go.mod"
  (cd "$module" && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w" -o "$cache/keda-operator" \
    github.com/kedacore/keda/v2/cmd/operator) || echo "KEDA could not be built: its test will be skipped" >&2
  rm -rf "$module"
}

have() { for name in $programs; do [ -x "$cache/$name" ] || return 1; done; }
command -v go >/dev/null || { echo "no Go: tests that need a cluster will be skipped" >&2; exit; }
types keda github.com/kedacore/keda/v2@v2.21.0 config/crd/bases ""
types prometheus github.com/prometheus-operator/prometheus-operator@v0.85.0 example/prometheus-operator-crd _p*s
types secrets github.com/external-secrets/external-secrets@v0.16.2 config/crds/bases _*secret*
types gateway sigs.k8s.io/gateway-api@v1.6.3 config/crd/standard _*routes
[ "${1-}" = keda ] && keda
have && exit
echo "penstock: building Kubernetes $version, which takes a while, once ..." >&2
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
packages=$(for name in $programs; do echo "k8s.io/kubernetes/cmd/$name"; done)
version_of=k8s.io/component-base/version
minor=${version#*.}
named="-X $version_of.gitVersion=v$version -X $version_of.gitMajor=${version%%.*} -X $version_of.gitMinor=${minor%%.*}"
# shellcheck disable=SC2086 # a list
if (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $named" -o "$made/" $packages); then
  mkdir -p "$cache" && mv "$made"/* "$cache/"
else
  echo "Kubernetes could not be built: tests that need a cluster will be skipped" >&2
fi
exit 0
