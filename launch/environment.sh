# shellcheck shell=bash
# Makes .venv and installs the project into it; sourced by the other scripts, from the repository's root.
# Usage: source launch/environment.sh [extra ...], for example: source launch/environment.sh test
# PYTHON chooses the interpreter (3.11 or newer); ALPHAECOLI_EXTRA adds extras, such as cuda or tpu;
# ALPHAECOLI_VENV is the folder to make in place of .venv.

# glibc gives large blocks back to the system at once, and a training step on a CPU then spends much
# of its time having them cleared again: keep them, in huge pages where the system allows it.
export MALLOC_MMAP_MAX_=0 MALLOC_ARENA_MAX=1 MALLOC_TOP_PAD_=268435456
export MALLOC_TRIM_THRESHOLD_=8589934592 GLIBC_TUNABLES=glibc.malloc.hugetlb=1

venv=${ALPHAECOLI_VENV:-.venv}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer was not found; install it, or name it: PYTHON=/path/to/python" >&2
  return 1
}

make_environment() {
  local extras python stamp
  extras=$(IFS=,; echo "$*${ALPHAECOLI_EXTRA:+,$ALPHAECOLI_EXTRA}")
  extras=${extras#,}
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python) || return 1
    echo "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv" || {
      rm -rf "$venv"
      echo "error: '$python -m venv' failed; on Debian or Ubuntu install python3-venv" >&2
      return 1
    }
  fi
  stamp="$venv/installed-$(cksum <pyproject.toml | tr ' ' -)-${extras//,/-}"
  if [ ! -e "$stamp" ]; then
    echo "Installing alphaecoli${extras:+[$extras]} into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}"
    touch "$stamp"
  fi
}

make_environment "$@"
