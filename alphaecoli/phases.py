"""Measures how much predictions depend on where windows lie: `python -m alphaecoli.phases`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alphaecoli import cli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import DEFAULT_MODEL, write_json
from alphaecoli.inference.prediction import TRACK_UNITS, UNITS
from alphaecoli.schema import BIN_BP

DESCRIPTION = """Predicts part of a genome, read as circular, with windows at several offsets
(phases), and prints the differences for each margin: what --margin-bp of alphaecoli.predict costs
and gains."""


def main(arguments: Sequence[str]) -> int:
  """Reads flags, measures, prints a table."""
  options = _options(arguments)
  from alphaecoli.api import load_predictor
  from alphaecoli.genomics.genbank import read_sequences
  from alphaecoli.inference.margins import at_margin, margins, phase_differences, phases

  contig = max(read_sequences(options.fasta)[0], key=lambda contig: contig.length_bp)
  bases = min(options.bases, contig.length_bp) // BIN_BP * BIN_BP
  if not bases:
    raise DataError(f"{options.fasta}: {contig.name} is shorter than {BIN_BP} bp")
  predictor = load_predictor(
    options.checkpoint, device=options.device, batch_windows=options.batch_windows
  )
  window = predictor.window_bp
  tried = options.margins or margins(window)
  plans = [
    (at_margin(predictor, m), phases(at_margin(predictor, m), options.phases)) for m in tried
  ]
  results = []
  with cli.BaseProgress(bases * sum(len(shifts) + 1 for _, shifts in plans), "phases") as progress:
    for model, shifts in plans:
      found = phase_differences(model, contig.codes[:bases], shifts, progress)
      results.append({"margin_bp": model.margin_bp, "phases": len(shifts) + 1, "heads": found})
  print(_table(results, window, contig.name, bases))
  if options.json:
    report = {"checkpoint": options.checkpoint, "window_bp": window, "bases": bases}
    write_json(options.json, {**report, "margins": results})
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("phases", DESCRIPTION)
  add = parser.add_argument
  add(
    "--checkpoint",
    default=DEFAULT_MODEL,
    help="a shipped model (default %(default)s), a checkpoint, a run's directory, or an ensemble",
  )
  add("--fasta", required=True, type=Path, help="FASTA or GenBank; its longest contig is used")
  add("--bases", type=int, default=1 << 20, help="how many of its bases, from the first")
  add("--phases", type=int, default=7, help="other places of the windows to compare with")
  add(
    "--margins",
    type=_numbers,
    help="bp, joined by commas; default: 0, 1/8, 1/4, 3/8, 7/16 of the window",
  )
  add("--batch-windows", type=int, help="windows at once, over all devices; default: fill them")
  add("--device", help="platform such as cpu or gpu; default: what JAX finds")
  add("--json", type=Path, help="also write the numbers to this file")
  options = parser.parse_args(list(arguments))
  for name in ("bases", "phases"):
    if getattr(options, name) < 1:
      raise ConfigError(f"--{name}={getattr(options, name)}; expected at least 1")
  return options


def _numbers(text: str) -> list[int]:
  """Reads numbers joined by commas."""
  return [int(word) for word in text.split(",")]


def _table(results: Sequence[dict[str, Any]], window_bp: int, contig: str, bases: int) -> str:
  """Formats the differences, one line a margin and head."""
  from alphaecoli.inference.margins import QUANTILES

  units = {"gene_expression": UNITS["log_tpm"], **TRACK_UNITS}
  names = {0.5: "median", 0.99: "99%", 1.0: "largest"}
  columns = "".join(f"{names[q]:>10}" for q in QUANTILES)
  lines = [
    f"Absolute difference to other window offsets; {contig}, {bases:,} bp, window {window_bp:,} bp",
    f"{'margin_bp':>9}  {'work':>5}  {'head':<18}{columns}  units",
  ]
  for row in results:
    work = window_bp / (window_bp - 2 * row["margin_bp"])
    for head, values in row["heads"].items():
      numbers = "".join(f"{values[q]:>10.4f}" for q in QUANTILES)
      lines.append(f"{row['margin_bp']:>9}  {work:>4.1f}x  {head:<18}{numbers}  {units[head]}")
  return "\n".join(lines)


if __name__ == "__main__":
  cli.run(main)
