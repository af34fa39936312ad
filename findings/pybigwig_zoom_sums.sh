#!/usr/bin/env bash
# pyBigWig 0.3.29 (libBigWig): zoom levels of a BigWig hold records whose sum and sum of squares are 0
# while their count, minimum and maximum are right: the last record of the file at every level, and the
# last one of every full block, which is 1 bp wide. So a mean from zoom levels is too low there, and a
# browser draws the end of the last contig as 0. Values here are 3 in "chr" and 5 in "plasmid". Seen by
# pybigtools 0.3.0, another library, and by pyBigWig itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyBigWig==0.3.29 pybigtools==0.3.0 "numpy>=2,<3"
cat >"$folder/run.py" <<'PYTHON'
import sys

import numpy as np
import pyBigWig
import pybigtools

path = sys.argv[1]
with pyBigWig.open(path, "w") as file:
  file.addHeader([("chr", 40_000), ("plasmid", 200)])
  file.addEntries("chr", 0, values=np.full(40_000, 3.0), span=1, step=1)
  file.addEntries("plasmid", 0, values=np.full(200, 5.0), span=1, step=1)
reader = pybigtools.open(path)
for window in reader.zooms():
  for contig in ("chr", "plasmid"):
    for start, end, record in reader.zoom_records(window, contig):
      if record["sum"] != record["bases_covered"] * record["min_val"]:
        print(f"{window} bp: {contig}:{start}-{end} minimum {record['min_val']} sum {record['sum']}")
with pyBigWig.open(path) as file:
  print("mean of the plasmid, zoomed out:", file.stats("plasmid", 0, 200)[0])
  print("mean of the plasmid, exact:", file.stats("plasmid", 0, 200, exact=True)[0])
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder/track.bw" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
16 bp: chr:16352-16353 minimum 3.0 sum 0.0
16 bp: chr:32705-32706 minimum 3.0 sum 0.0
16 bp: plasmid:192-200 minimum 5.0 sum 0.0
64 bp: plasmid:192-200 minimum 5.0 sum 0.0
mean of the plasmid, zoomed out: 4.8
mean of the plasmid, exact: 5.0
SEEN
echo "as described"
