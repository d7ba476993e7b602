#!/bin/sh
# Puts helm and helm-unittest beside this script, built by Go from their modules. Without Go the tests say what they miss.
here=$(cd "$(dirname "$0")" && pwd)

build() { # the binary's name, its package at a version
  [ -x "$here/bin/$1" ] && return
  command -v "$1" >/dev/null && return
  command -v go >/dev/null || { echo "no Go: tests that need $1 will be skipped" >&2; return; }
  echo "penstock: building $1 ${2#*@} ..." >&2
  GOBIN="$here/bin" go install "$2" || echo "$1 could not be built" >&2
}

build helm helm.sh/helm/v3/cmd/helm@v3.22.0
# from 1.0.3 on its go.mod replaces a module, and go install refuses such ones
build helm-unittest github.com/helm-unittest/helm-unittest/cmd/helm-unittest@v1.0.0
exit 0
