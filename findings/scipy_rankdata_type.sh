#!/usr/bin/env bash
# scipy 1.18.1 (Python 3.12 or newer): scipy.stats.rankdata returns ranks in the type of its input; up
# to 1.17.1 they were float64 whatever came in. Ranks are counts, so one would guess they stay exact.
# Seen: of 5,000 different float16 values the ranks are not all different, and float32 ranks of 464,164
# scores sum to another number than n (n + 1) / 2: an AUROC made of them is off from the eighth digit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in python3.13 python3.12 python3; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then break; fi
done
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scipy==1.18.1 "numpy>=2,<3"
cat >"$folder/run.py" <<'PYTHON'
import numpy as np
from scipy import stats

for kind in ("float64", "float32", "float16"):
  print(kind, "is ranked in", stats.rankdata(np.arange(5, dtype=kind)).dtype)
halves = np.arange(5000, dtype=np.uint16).view(np.float16)  # all different, in order
print("float16 ranks all different:", len(np.unique(stats.rankdata(halves))) == 5000)
scores = np.random.default_rng(0).random(464_164).astype(np.float32)
n = len(scores)
print("float32 ranks sum to n (n + 1) / 2:", float(stats.rankdata(scores).sum()) == n * (n + 1) / 2)
PYTHON
"$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
float64 is ranked in float64
float32 is ranked in float32
float16 is ranked in float16
float16 ranks all different: False
float32 ranks sum to n (n + 1) / 2: False
SEEN
echo "as described"
