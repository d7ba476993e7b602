#!/bin/sh
# Installs a lock file and this package into .venv/: sh requirements/install.sh demo|check|dev
# What is missing is said in one line.
set -eu
lock=$1
python=${PYTHON:-python3}
case $lock in dev) needed_gb=9 ;; *) needed_gb=1 ;; esac
fail() { echo "penstock: $1" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python is missing: install Python 3.11 or later, or say make PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is $("$python" -V 2>&1); Penstock needs Python 3.11 or later: make PYTHON=python3.12"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python has no venv module: install it (Debian: apt-get install python3-venv)"
free_gb=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1048576))
[ "$free_gb" -ge "$needed_gb" ] || [ -e .venv/.dev ] || [ -e .venv/.demo ] || [ -e .venv/.check ] ||
  fail "$free_gb GB are free here; requirements/$lock.txt needs $needed_gb GB"

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "penstock: installing requirements/$lock.txt into .venv ..." >&2
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "requirements/$lock.txt"
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
case $lock in dev) touch .venv/.demo .venv/.check .venv/.dev ;; check) touch .venv/.demo .venv/.check ;; *) touch .venv/.demo ;; esac
