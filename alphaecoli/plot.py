"""Draws observed and predicted tracks of a stretch: `python -m alphaecoli.plot --help`."""

import argparse
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphaecoli import cli
from alphaecoli.checkpoint import find_checkpoint, read_meta
from alphaecoli.drawing import SPLIT_WORDS, MarkedOperon, marked_operons, plot_region
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.predictor import load_predictor
from alphaecoli.inference.reading import read_prediction
from alphaecoli.tracks.store import TrackStore, open_store

LOGGER = logging.getLogger("alphaecoli.plot")

WIDTH_BP = 30_000
STEP_BP = 1_000


def choose_region(store: TrackStore, split: str, width_bp: int = WIDTH_BP) -> tuple[int, int]:
  """A stretch that shows something, chosen from observed data alone.

  Of all stretches of the split at steps of 1 kb that hold a whole operon of several genes, all with
  expression data where there are some: the one where genes differ most in expression and about half
  of the bases lie in operons. The first of equals.

  Raises:
    DataError: the split holds no operon with data.
  """
  operons = marked_operons(store)
  best: tuple[float, int, int] | None = None
  for arc_start, arc_end in store.arcs(split):
    last = min(arc_end, store.length_bp)  # a picture does not pass the origin
    width = min(width_bp, last - arc_start)
    for start in range(arc_start, last - width + 1, STEP_BP):
      score = _interest(store, operons, start, start + width)
      if score is not None and (best is None or score > best[0]):
        best = score, start, start + width
  if best is None:
    raise DataError(f"the {split} split holds no operon with data; pass --region start-end")
  return best[1:]


def _interest(
  store: TrackStore, operons: Sequence[MarkedOperon], start: int, end: int
) -> float | None:
  """How much a stretch shows; None without a whole operon with data."""
  genes = store.genes
  values = genes.log_tpm[:, 0]
  known = ~np.isnan(values) | (not store.table.has_expression)
  touching = [o for o in operons if o.start < end and o.end > start]
  if not any(o.start >= start and o.end <= end and known[list(o.rows)].all() for o in touching):
    return None
  inside = (genes.start >= start) & (genes.end <= end) & ~np.isnan(values)
  # Quartiles: ribosomal RNA is removed before sequencing, and its zeros say nothing.
  low, high = np.quantile(values[inside], (0.25, 0.75)) if inside.any() else (0.0, 1.0)
  covered = np.zeros(end - start, bool)
  for operon in touching:
    covered[max(operon.start - start, 0) : operon.end - start] = True
  share = float(covered.mean())
  return float(high - low) * 4 * share * (1 - share)


def main(arguments: Sequence[str]) -> int:
  """Reads flags, finds or computes the prediction, draws."""
  options = _options(arguments)
  checkpoint = find_checkpoint(options.workdir)
  store = find_store(Path(options.workdir), read_meta(checkpoint))
  start, end = options.region or choose_region(store, options.split)
  if end > store.length_bp:
    raise ConfigError(
      f"--region={start}-{end} is past the end of {store.contig} ({store.length_bp} bp)"
    )
  if options.predictions:
    prediction = read_prediction(options.predictions, store.contig, start, end)
  else:
    prediction = load_predictor(checkpoint).predict(
      store.sequence, circular=store.circular, interval=(start, end)
    )
  title = _organism(store.manifest["contig"])
  plot_region(store, prediction, start, end, options.out, track=options.track, title=title)
  LOGGER.info("drew %s %d-%d to %s", store.contig, start, end, options.out)
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """The command line."""
  parser = cli.parser("plot", "Draws observed and predicted tracks of a stretch of the chromosome.")
  add = parser.add_argument
  add("--workdir", required=True, help="directory of a run, with its track store and checkpoints")
  add("--out", required=True, type=Path, help="the PNG")
  add("--predictions", type=Path, help="directory from alphaecoli.predict; default: predict now")
  add("--region", type=_region, help="start-end, 0-based half-open; default: chosen from the split")
  add("--split", choices=list(SPLIT_WORDS), default="test", help="where to choose the stretch")
  add("--track", help="expression track; default: the first")
  return parser.parse_args(list(arguments))


def _region(text: str) -> tuple[int, int]:
  """Reads start-end."""
  match = re.fullmatch(r"([\d,]+)-([\d,]+)", text)
  start, end = (int(part.replace(",", "")) for part in match.groups()) if match else (0, 0)
  if start >= end:
    raise argparse.ArgumentTypeError(f"{text!r}; expected start-end with start below end")
  return start, end


def find_store(workdir: Path, meta: Mapping[str, Any]) -> TrackStore:
  """The track store that a checkpoint was trained on.

  Raises:
    DataError: it is not where the run put it.
  """
  configured = meta["config"]["data"]["store_dir"]
  folder = Path(configured).expanduser() if configured else workdir / "tracks"
  for path in sorted(folder.glob("[!.]*/manifest.json")):
    store = open_store(path.parent)
    if store.fingerprint == meta["store_fingerprint"]:
      return store
  raise DataError(
    f"{folder}: the track store of this run is not there; make it again with "
    "python -m alphaecoli.train --process-data-only and the run's configuration"
  )


def _organism(contig: Mapping[str, Any]) -> str:
  """What to call the chromosome: its FASTA description up to the first comma, and its name."""
  description = str(contig.get("description", "")).split(",")[0]
  return f"{description} ({contig['name']})" if description else str(contig["name"])


if __name__ == "__main__":
  cli.run(main)
