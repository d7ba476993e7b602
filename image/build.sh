#!/bin/sh
# Builds an image for a release: on base images by digest, with layers that are the same bytes for the same content.
#   sh image/build.sh cpu|cuda|tensorrt IMAGE [options of docker buildx build, such as --push]
# PYTHON and BASE name other images than the Dockerfile's; a digest in them is taken as it is, else the registry is asked.
set -eu
case "${1-}:${2-}" in cpu:?* | cuda:?* | tensorrt:?*) ;; *)
  echo "usage: sh image/build.sh cpu|cuda|tensorrt IMAGE [OPTION]..." >&2; exit 2 ;;
esac
target=$1 image=$2
shift 2
cd "$(dirname "$0")/.."
fail() { echo "penstock: $1" >&2; exit 1; }
default() { sed -n "s/^ARG $1=//p" Dockerfile; }

pinned() {
  case $1 in *@sha256:*) echo "$1"; return ;; esac
  digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1") || fail "no digest of $1: is its registry there?"
  case $digest in sha256:*) echo "$1@$digest" ;; *) fail "no digest of $1: $digest" ;; esac
}

python=$(pinned "${PYTHON:-$(default PYTHON)}")
base=$(pinned "${BASE:-$(default BASE)}")
echo "penstock: $target on $base" >&2
exec docker buildx build --target "$target" --tag "$image" \
  --build-arg "PYTHON=$python" --build-arg "BASE=$base" --build-arg RELEASE=1 \
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" --build-arg SOURCE_DATE_EPOCH=315532800 \
  --output "type=image,rewrite-timestamp=true" "$@" .
