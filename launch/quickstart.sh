#!/usr/bin/env bash
# From nothing to held-out figures and predicted tracks, on two CPU cores, in less than twenty minutes:
# makes .venv, installs, trains on the embedded E. coli K-12 data set, evaluates on chromosome the
# model never saw, predicts the whole genome, draws a held-out region and writes a report (HTML).
# Arguments go to the training command: bash launch/quickstart.sh --config.train.steps=200
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh "" # no extras: without an argument it would see those of this script
python=$venv/bin/python
workdir=runs/quickstart
genome=alphaecoli/datasets/ecoli_k12_mg1655/NC_000913.3.fna.gz

echo "1/5 Training (run this script again to resume)"
"$python" -m alphaecoli.train --config configs/quickstart.py --workdir "$workdir" "$@"
echo "2/5 Evaluating on the test split"
"$python" -m alphaecoli.evaluate --workdir "$workdir" --split test
echo "3/5 Predicting the whole genome"
"$python" -m alphaecoli.predict --checkpoint "$workdir" --fasta "$genome" --circular all \
  --store "$workdir" --reverse-complement-average --out predictions
echo "4/5 Drawing a held-out region"
"$python" -m alphaecoli.plot --workdir "$workdir" --predictions predictions --out predictions/held_out.png
echo "5/5 Writing the report"
"$python" -m alphaecoli.report --workdir "$workdir" --predictions predictions

echo "Done: $workdir/report.html, $workdir/evaluation_test.json, predictions/*.bw, predictions/operons.gff3,"
echo "  predictions/genes.tsv, predictions/pairs.tsv, predictions/held_out.png"
