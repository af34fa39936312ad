#!/usr/bin/env bash
# Runs the tests on several Pythons, each in an environment of its own (.venv-3.12, ...) with the
# newest packages that pyproject.toml allows there. Arguments before -- name Pythons, those after it
# go to pytest:
#   bash launch/pythons.sh                                  python3.11, python3.12 and python3.13
#   bash launch/pythons.sh /opt/python3.13 -- tests/model
set -euo pipefail
cd "$(dirname "$0")/.."

pythons=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  pythons+=("$1")
  shift
done
[ $# -eq 0 ] || shift
[ ${#pythons[@]} -gt 0 ] || pythons=(python3.11 python3.12 python3.13)

table=""
failed=0
for python in "${pythons[@]}"; do
  if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
    row="$python is not installed"
    failed=1
  else
    export PYTHON=$python ALPHAECOLI_VENV=.venv-$version
    log=$ALPHAECOLI_VENV-tests.log
    bash launch/test.sh -q "$@" 2>&1 | tee "$log" || failed=1
    stack=$("$ALPHAECOLI_VENV/bin/python" -m pip list --format=freeze |
      grep -E '^(jax|flax|orbax-checkpoint)==' | tr '\n' ' ') || stack=""
    row="python==$version $stack: $(tail -n 1 "$log")"
  fi
  table+="$row"$'\n'
done
printf '\n%s' "$table"
exit "$failed"
