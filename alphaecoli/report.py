"""Writes one HTML file about a run: `python -m alphaecoli.report --help`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alphaecoli import cli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import make_folder, write_text

# What computes is imported where it is used: --help and a wrong flag answer at once.
if TYPE_CHECKING:
  from alphaecoli.inference.prediction import Prediction
  from alphaecoli.reporting.run import Run

DESCRIPTION = """\
Writes one HTML file about a finished or running run: metrics of a held-out split beside baselines,
expression by gene, calibration, a browser of the chromosome, a circular overview, loss curves, data
quality, configuration. It holds everything it needs; opening it uses no network. Beside it a
methods paragraph, ready to paste: methods.txt.
What the metrics mean: docs/evaluation.md."""


def main(arguments: Sequence[str]) -> int:
  """Reads the run, predicts its chromosome, writes the page."""
  options = _options(arguments)
  from alphaecoli.reporting.chromosome import choose_loci, genome_view
  from alphaecoli.reporting.methods import METHODS_FILE, paragraph
  from alphaecoli.reporting.page import render
  from alphaecoli.reporting.run import read_run
  from alphaecoli.reporting.sections import missing_evaluation
  from alphaecoli.tracks.replicons import choose_contig

  run = read_run(options.workdir, options.split, options.organism)
  run = dataclasses.replace(run, store=choose_contig(run.store, options.contig))
  store = run.store
  names = store.table.names
  if options.track is not None and options.track not in names:
    raise ConfigError(f"--track {options.track}: not in the store; it has {', '.join(names)}")
  column = names.index(options.track) if options.track is not None else 0
  loci = choose_loci(store, options.loci, options.split)
  prediction, origin = _predict(run, options.predictions)
  view = genome_view(store, prediction, column, options.split, loci)
  if run.evaluation is None:
    cli.LOGGER.warning(missing_evaluation(run))
  out = options.out or options.workdir / "report.html"
  make_folder(out.parent)
  methods = paragraph(run)
  write_text(out.with_name(METHODS_FILE), methods + "\n")
  write_text(out, render(run, view, origin, methods))
  cli.LOGGER.info("wrote %s, %.1f MB, and %s", out, out.stat().st_size / 1e6, METHODS_FILE)
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("report", DESCRIPTION)
  add = parser.add_argument
  add("--workdir", required=True, type=Path, help="directory of a training run")
  add("--split", choices=("test", "validation"), default="test", help="default: test")
  add("--out", type=Path, help="the HTML file; default: report.html in the work directory")
  add(
    "--loci",
    help="genes or contig:start-end (1-based, inclusive) with commas between, to offer in the "
    "browser at full resolution; default: a region of the split",
  )
  add("--contig", help="of the browser, where the store has several; default: the longest")
  add("--organism", help="name or row, where the model was trained on several")
  add(
    "--track", help="expression track of the browser and the circular overview; default: the first"
  )
  add("--predictions", type=Path, help="directory from alphaecoli.predict; default: predict now")
  return parser.parse_args(list(arguments))


def _predict(run: "Run", folder: Path | None) -> "tuple[Prediction | None, str]":
  """Predicts or reads the chromosome in log TPM; says where they come from.

  Raises:
    DataError: the files are another checkpoint's, or of another chromosome.
  """
  from alphaecoli.api import load_predictor
  from alphaecoli.inference.output import read_manifest, read_prediction
  from alphaecoli.tracks.track_table import TrackTable

  if run.best is None:
    cli.LOGGER.warning("%s has no checkpoint yet: the page shows no predictions", run.workdir)
    return None, "none yet, as the run has no checkpoint"
  words = f"step {run.best.step:,}"
  if folder is None:
    with cli.BaseProgress(run.store.length_bp, f"predicting {run.store.contig}") as progress:
      prediction = load_predictor(run.best.path, organism=run.organism or None).predict(
        run.store.sequence, circular=run.store.circular, progress=progress
      )
    return prediction, words
  manifest = read_manifest(folder)
  step, table = manifest["model"]["step"], TrackTable.from_json(manifest["track_table"])
  if step != run.best.step or table != run.store.table:
    raise DataError(
      f"{folder}: predictions of step {step} of a model of other data or of another step than this "
      f"run's best, {run.best.step}; predict again with --checkpoint {run.best.path}"
    )
  whole = read_prediction(folder, run.store.contig, 0, run.store.length_bp)
  return whole.in_units("log_tpm"), words


if __name__ == "__main__":
  cli.run(main)
