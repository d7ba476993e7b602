#!/bin/sh
# Builds what an image holds beside Python, by hash-locked requirements and without a compiler, and lists its packages:
#   sh image/tree.sh cpu|cuda DESTINATION
set -eu
case "${1-}:${2-}" in cpu:?* | cuda:?*) ;; *) echo "usage: sh image/tree.sh cpu|cuda DESTINATION" >&2; exit 2 ;; esac
lock=$1 destination=$(realpath -m "$2") python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { "$python" -m pip --disable-pip-version-check --no-cache-dir "$@"; }

pip install -q --no-deps --require-hashes --only-binary :all: --target "$destination/lib" -r "requirements/$lock.txt"
pip install -q --no-deps --require-hashes --only-binary :all: --target "$work/build" -r requirements/image.txt
PYTHONPATH="$work/build" pip wheel -q --no-deps --no-build-isolation --wheel-dir "$work" .
pip install -q --no-deps --no-index --target "$destination/lib" "$work"/penstock_worker-*.whl
ln -s lib/penstock/data/models "$destination/shipped"
rm -rf "$destination/lib/bin"

# An interpreter that sees nothing but the image's packages tells what they are.
printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -S "$@"\n' "$destination/lib" "$python" >"$work/python"
chmod +x "$work/python"
PYTHONPATH="$work/build" "$python" -m cyclonedx_py environment -S --output-reproducible -o "$destination/sbom.cdx.json" "$work/python"
