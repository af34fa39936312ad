"""Measures how much predictions depend on where windows lie: `python -m alphaecoli.phases`."""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alphaecoli import cli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import DEFAULT_MODEL, write_json
from alphaecoli.inference.prediction import TRACK_UNITS, UNITS
from alphaecoli.schema import BIN_BP

if TYPE_CHECKING:
  from alphaecoli.api import Predictor
  from alphaecoli.genomics.vcf import Variant
  from alphaecoli.inference.arguments import AnnotatedGenome

DESCRIPTION = """Predicts part of a genome, read as circular, with windows at several offsets
(phases), and prints the differences for each margin: what --margin-bp of alphaecoli.predict costs
and gains. With --insertions, what one base more scores where it should do nothing, by the number
of places over which --offsets of alphaecoli.score averages."""


def main(arguments: Sequence[str]) -> int:
  """Reads flags, measures, prints a table."""
  options = _options(arguments)
  from alphaecoli.api import load_predictor
  from alphaecoli.genomics.genbank import read_sequences
  from alphaecoli.inference.margins import at_margin, margins, phase_differences, phases

  if options.insertions:
    return _insertions(options)
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
  add("--insertions", type=int, metavar="N", help="insert a base into the N longest neutral gaps")
  add("--annotation", type=Path, help="of --insertions: genes; default: those in --fasta")
  add("--offsets", type=_numbers, default=[1, 2, 4, 8], help="of --insertions (default 1,2,4,8)")
  add("--batch-windows", type=int, help="windows at once, over all devices; default: fill them")
  add("--device", help="platform such as cpu or gpu; default: what JAX finds")
  add("--json", type=Path, help="also write the numbers to this file")
  options = parser.parse_args(list(arguments))
  for name in ("bases", "phases", "insertions"):
    if getattr(options, name) is not None and getattr(options, name) < 1:
      raise ConfigError(f"--{name}={getattr(options, name)}; expected at least 1")
  return options


def _insertions(options: argparse.Namespace) -> int:
  """Scores insertions of one base between genes, and prints what is left of them by offsets.

  Raises:
    DataError: no gap between two genes that end in it.
  """
  from alphaecoli.api import load_predictor
  from alphaecoli.inference.arguments import read_genome

  genome = read_genome(options.fasta, annotation=options.annotation, circular=True)
  predictor = load_predictor(
    options.checkpoint, device=options.device, batch_windows=options.batch_windows
  )
  insertions, substitutions = neutral_variants(genome, options.insertions)
  if not insertions:
    raise DataError(f"{options.fasta}: no gap between two genes that end in it; give --annotation")
  rows = [
    _effects(predictor, genome, variants, kind, count)
    for kind, variants, counts in (
      ("insertion", insertions, options.offsets),
      ("substitution", substitutions, options.offsets[:1]),
    )
    for count in counts
  ]
  print(f"Absolute change of a gene's ln(1 + TPM); {len(insertions)} neutral places")
  columns = ("kind", "offsets", "genes", "median", "99%", "largest", "marked")
  print(("{:<13}" + "{:>9}" * 6).format(*columns))
  for row in rows:
    print("{:<13}{:>9}{:>9}{:>9.4f}{:>9.4f}{:>9.4f}{:>9}".format(*row.values()))
  if options.json:
    write_json(options.json, {"checkpoint": options.checkpoint, "neutral": rows})
  return 0


def neutral_variants(
  genome: "AnnotatedGenome", count: int
) -> "tuple[list[Variant], list[Variant]]":
  """Inserts and substitutes a base in the middle of gaps between genes that both end there.

  Such a gap has neither a promoter of the two nor anything that is transcribed on purpose.

  Args:
    genome: genome with its genes.
    count: gaps to take, the longest first.
  """
  from alphaecoli.genomics.sequence import UNKNOWN, decode
  from alphaecoli.genomics.vcf import Variant

  gaps = []  # with a known base in their middle
  for name, features in genome.features.items():
    genes = sorted(features.genes, key=lambda gene: gene.start)
    reach = 0
    for left, right in itertools.pairwise(genes):
      reach = max(reach, left.end)
      if left.strand > 0 > right.strand and right.start > reach:
        middle = (reach + right.start) // 2
        if genome[name].codes[middle] != UNKNOWN:
          gaps.append((right.start - reach, name, middle))
  variants: tuple[list[Variant], list[Variant]] = ([], [])
  for _, name, middle in sorted(gaps, reverse=True)[:count]:
    base = decode(genome[name].codes[middle : middle + 1])
    other = "ACGT"["CGTA".find(base)]
    for kind, alt in zip(variants, (base + other, other), strict=True):
      kind.append(Variant(name, middle + 1, base, alt))
  return variants


def _effects(
  predictor: "Predictor",
  genome: "AnnotatedGenome",
  variants: "Sequence[Variant]",
  kind: str,
  offsets: int,
) -> dict[str, Any]:
  """Scores variants with so many offsets: quantiles over all genes in their windows and tracks."""
  from alphaecoli.inference.margins import QUANTILES
  from alphaecoli.variants.scores import within_grid_shift

  scores = predictor.score_variants(variants, genome, offsets=offsets).scores
  effects = [effect for score in scores for effect in score.genes if effect.share == 1]
  changes = np.abs([effect.change[:-2] for effect in effects])
  marked = [within_grid_shift(effect.change, effect.grid) for effect in effects]
  return {
    "kind": kind,
    "offsets": offsets,
    "genes": len(effects),
    **{f"quantile_{q:g}": float(np.quantile(changes, q)) for q in QUANTILES},
    "marked": f"{100 * np.mean([bool(m) for m in marked]):.0f}%" if offsets > 1 else "",
  }


def _numbers(text: str) -> list[int]:
  """Reads numbers joined by commas."""
  return [int(word) for word in text.split(",")]


def _table(results: Sequence[dict[str, Any]], window_bp: int, contig: str, bases: int) -> str:
  """Formats the differences, one line a margin and head."""
  from alphaecoli.inference.margins import QUANTILES
  from alphaecoli.inference.tiling import tile_length

  units = {"gene_expression": UNITS["log_tpm"], **TRACK_UNITS}
  names = {0.5: "median", 0.99: "99%", 1.0: "largest"}
  columns = "".join(f"{names[q]:>10}" for q in QUANTILES)
  lines = [
    f"Absolute difference to other window offsets; {contig}, {bases:,} bp, window {window_bp:,} bp",
    f"{'margin_bp':>9}  {'convolved':>9}  {'attended':>8}  {'head':<18}{columns}  units",
  ]
  for row in results:
    margin_bp = row["margin_bp"]
    convolved, attended = (
      f"{bp / (bp - 2 * margin_bp):.2f}x"  # times that each base is
      for bp in (tile_length(bases, window_bp, margin_bp), window_bp)
    )
    for head, values in row["heads"].items():
      numbers = "".join(f"{values[q]:>10.4f}" for q in QUANTILES)
      times = f"{margin_bp:>9}  {convolved:>9}  {attended:>8}"
      lines.append(f"{times}  {head:<18}{numbers}  {units[head]}")
  return "\n".join(lines)


if __name__ == "__main__":
  cli.run(main)
