"""Draws observed and predicted tracks of a region: `python -m alphaecoli.plot --help`."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from alphaecoli import cli
from alphaecoli.errors import ConfigError
from alphaecoli.plotting.observed import SPLIT_WORDS, choose_region, organism


def main(arguments: Sequence[str]) -> int:
  """Reads flags, finds or computes the prediction, draws."""
  options = _options(arguments)
  from alphaecoli.api import load_predictor
  from alphaecoli.checkpoints.read import find_checkpoint, read_meta
  from alphaecoli.inference.output import read_prediction
  from alphaecoli.plotting.region import plot_region
  from alphaecoli.tracks.organisms import find_store
  from alphaecoli.tracks.replicons import choose_contig

  checkpoint = find_checkpoint(options.workdir)
  found = find_store(read_meta(checkpoint), Path(options.workdir), options.organism)
  store = choose_contig(found, options.contig)
  start, end = options.region or choose_region(store, options.split)
  if end > store.length_bp:
    raise ConfigError(
      f"--region={start}-{end} is past the end of {store.contig} ({store.length_bp} bp)"
    )
  if options.predictions:
    prediction = read_prediction(options.predictions, store.contig, start, end)
  else:
    prediction = load_predictor(Path(checkpoint), organism=options.organism).predict(
      store.sequence, circular=store.circular, interval=(start, end)
    )
  title = organism(store.manifest["contig"])
  plot_region(store, prediction, start, end, options.out, track=options.track, title=title)
  cli.LOGGER.info("drew %s %d-%d to %s", store.contig, start, end, options.out)
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("plot", "Draws observed and predicted tracks of a region of the chromosome.")
  add = parser.add_argument
  add("--workdir", required=True, help="directory of a run, with its track store and checkpoints")
  add("--out", required=True, type=Path, help="the PNG")
  add("--predictions", type=Path, help="directory from alphaecoli.predict; default: predict now")
  add("--region", type=_region, help="start-end, 0-based half-open; default: chosen from the split")
  add("--split", choices=list(SPLIT_WORDS), default="test", help="where to choose the region")
  add("--contig", help="where the store has several; default: the longest")
  add("--organism", help="name or row, where the model was trained on several")
  add("--track", help="expression track; default: the first")
  return parser.parse_args(list(arguments))


def _region(text: str) -> tuple[int, int]:
  """Reads start-end."""
  match = re.fullmatch(r"([\d,]+)-([\d,]+)", text)
  start, end = (int(part.replace(",", "")) for part in match.groups()) if match else (0, 0)
  if start >= end:
    raise argparse.ArgumentTypeError(f"{text!r}; expected start-end with start below end")
  return start, end


if __name__ == "__main__":
  cli.run(main)
