#!/usr/bin/env bash
# Measures one accelerator and trains on it, unattended, in some minutes and without a network:
#   bash launch/accelerator.sh --minutes 9 --out DIR
#   bash launch/accelerator.sh --rehearse        all of it at small sizes, on a CPU
# PYTHON chooses the interpreter, by default that of .venv, else python3: it must have JAX for the
# accelerator. WHEELS is a folder of wheels of what it lacks (default: wheels, if it is there); they
# go into a folder of their own. How to collect them, and what comes out: docs/launch.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-}
if [ -z "$python" ]; then
  python=python3
  [ ! -x .venv/bin/python ] || python=.venv/bin/python
fi
wheels=${WHEELS:-wheels}
path=$PWD
if compgen -G "$wheels/*.whl" >/dev/null; then
  site=$(mktemp -d)
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --target "$site" "$wheels"/*.whl
  path+=:$site
fi
export PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m alphaecoli.benchmarks.accelerator "$@" --spent "$SECONDS"
