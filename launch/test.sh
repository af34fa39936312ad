#!/usr/bin/env bash
# Makes .venv, installs the project with its test tools and runs the tests. Arguments go to pytest:
#   bash launch/test.sh -k tracks
#   bash launch/test.sh -m fullsize        parity with the published model at its full size
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh test
exec "$venv/bin/python" -m pytest "$@"
