#!/bin/sh
# Builds what an image holds beside Python, by hash-locked requirements and without a compiler:
#   sh image/tree.sh cpu|cuda DESTINATION [packages|code]
# packages: lib, by the lock file alone. code: code, the shipped models, and the list of all packages; after packages.
# Neither: both. The same content is the same bytes, times included, so that a registry has the layer already.
set -eu
usage() { echo "usage: sh image/tree.sh cpu|cuda DESTINATION [packages|code]" >&2; exit 2; }
case "${1-}:${2-}" in cpu:?* | cuda:?*) ;; *) usage ;; esac
case "${3-}" in '' | packages | code) ;; *) usage ;; esac
lock=$1 destination=$(realpath -m "$2") step=${3-} python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { "$python" -m pip --disable-pip-version-check --no-cache-dir "$@"; }

# Into one folder: no scripts, byte code that does not tell when its source was written, all of one time.
settle() {
  rm -rf "$1/bin"
  PYTHONHASHSEED=0 "$python" -m compileall -qq --invalidation-mode unchecked-hash -s "$destination" "$1" || true # templates
  find "$1" -exec touch -h -d @315532800 {} +
}

if [ "$step" != code ]; then
  locked="--no-deps --require-hashes --only-binary :all:"
  # shellcheck disable=SC2086 # options
  pip install -q --no-compile $locked --target "$destination/lib" -r "requirements/$lock.txt"
  settle "$destination/lib"
fi
[ "$step" = packages ] && exit

pip install -q --no-deps --require-hashes --only-binary :all: --target "$work/build" -r requirements/image.txt
wheel="$destination/wheel" # what is installed from a file remembers its place
PYTHONPATH="$work/build" pip wheel -q --no-deps --no-build-isolation --wheel-dir "$wheel" .
pip install -q --no-compile --no-deps --no-index --target "$destination/code" "$wheel"/penstock_worker-*.whl
rm -rf "$wheel"
mv "$destination/code/penstock/data/models" "$destination/shipped"
ln -s ../../../shipped "$destination/code/penstock/data/models"
settle "$destination/code"
settle "$destination/shipped"

# An interpreter that sees nothing but the image's packages tells what they are.
printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -S "$@"\n' "$destination/code:$destination/lib" "$python" >"$work/python"
chmod +x "$work/python"
PYTHONPATH="$work/build" "$python" -m cyclonedx_py environment -S --output-reproducible -o "$destination/sbom.cdx.json" "$work/python"
touch -d @315532800 "$destination/sbom.cdx.json"
