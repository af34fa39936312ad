#!/usr/bin/env bash
# scikit-learn 1.9.1: histogram gradient boosting takes missing values, also in all rows but a few, and
# constant columns; of a column that is missing in every row one would guess that it is a constant one.
# Seen: fit raises "window shape cannot be larger than input array shape", from the cutting of bins, and
# the message names no column. (A feature that a whole group lacks, such as a codon, gives such columns.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scikit-learn==1.9.1
cat >"$folder/run.py" <<'PYTHON'
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

random = np.random.default_rng(0)
y, other = random.normal(size=500), random.normal(size=500)
columns = {
  "constant": np.ones(500),
  "missing in 400 of 500 rows": np.where(np.arange(500) < 400, np.nan, 1.0),
  "missing in every row": np.full(500, np.nan),
}
for name, column in columns.items():
  try:
    HistGradientBoostingRegressor(max_iter=2).fit(np.column_stack([other, column]), y)
    print(f"{name}: fitted")
  except ValueError as error:
    print(f"{name}: {error}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
constant: fitted
missing in 400 of 500 rows: fitted
missing in every row: window shape cannot be larger than input array shape
SEEN
echo "as described"
