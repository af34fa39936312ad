"""What was measured, for pictures: a run's track store, its operons, regions worth looking at."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from alphaecoli.errors import DataError
from alphaecoli.genomics.intervals import covering_interval
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.store import TrackStore

WIDTH_BP = 30_000  # of a chosen region
STEP_BP = 1_000
MIN_GENES = 2  # of an operon that is marked
SPLIT_WORDS = {
  "train": "training data",
  "validation": "held-out validation",
  "test": "held-out test",
}


@dataclasses.dataclass(frozen=True)
class Observed:
  """What was measured in a region; arrays are NaN where unknown.

  Attributes:
    start: first base, a multiple of 128.
    log_tpm: ln(1 + TPM) of each base.
    density: genes per bin of 128 bp.
    operon: 1 within an operon.
  """

  start: int
  log_tpm: Float32[np.ndarray, "S T"]
  density: Float32[np.ndarray, "N"]
  operon: Float32[np.ndarray, "S"]


@dataclasses.dataclass(frozen=True)
class MarkedOperon:
  """An operon of several genes: its bounds and the rows of its genes, left to right."""

  start: int
  end: int
  rows: tuple[int, ...]


def read_observed(store: TrackStore, start: int, end: int) -> Observed:
  """Reads a region of the store, widened to whole bins (a linear contig's last one left out)."""
  first = start // BIN_BP * BIN_BP
  bins = -(-(end - first) // BIN_BP)
  if not store.circular:
    bins = min(bins, (store.length_bp - first) // BIN_BP)
  window = store.window(first, bins * BIN_BP)

  def measured(head: str) -> Float32[np.ndarray, "n T"]:
    return np.where(window[f"{head}_known"], window[head], np.nan).astype(np.float32)

  return Observed(
    first,
    store.table.to_log_tpm(measured("gene_expression")).astype(np.float32),
    measured("gene_density")[:, 0],
    measured("operon_membership")[:, 0],
  )


def marked_operons(store: TrackStore) -> list[MarkedOperon]:
  """Lists operons of several genes, by their first gene; an end past the length wraps around."""
  genes, length_bp = store.genes, store.length_bp
  members: dict[str, list[int]] = {}
  for row in np.argsort(genes.start, kind="stable").tolist():
    if genes.operon_id[row]:
      members.setdefault(str(genes.operon_id[row]), []).append(row)
  found = []
  for rows in members.values():
    bounds = [(int(genes.start[row]), int(genes.end[row])) for row in rows]
    start, end = bounds[0][0], max(end for _, end in bounds)
    if store.circular:
      start, end = covering_interval(bounds, length_bp)
      rows.sort(key=lambda row, first=start: (int(genes.start[row]) - first) % length_bp)
    if len(rows) >= MIN_GENES:
      found.append(MarkedOperon(start, end, tuple(rows)))
  return found


def operon_label(names: Sequence[str]) -> str:
  """Shortens the names of an operon's genes: thrL thrA thrB is thrLAB, mixed ones keep a dash."""
  parts: list[tuple[str, str]] = []
  for name in names:
    match = re.fullmatch(r"([a-z]{3})([A-Z]\w*)", name)
    stem, letter = match.groups() if match else (name, "")
    if parts and letter and parts[-1][0] == stem:
      parts[-1] = stem, parts[-1][1] + letter
    else:
      parts.append((stem, letter))
  return "-".join(stem + letters for stem, letters in parts)


def split_words(store: TrackStore, start: int, end: int) -> str:
  """Says which split a region belongs to."""
  for split, words in SPLIT_WORDS.items():
    if any(r.offset(start, end, store.length_bp) is not None for r in store.regions(split)):
      return words
  return "partly training data"


def find_region(store: TrackStore, split: str, width_bp: int = WIDTH_BP) -> tuple[int, int] | None:
  """Finds a region that shows something, chosen from observed data alone.

  Of all regions of the split at steps of 1 kb that hold a whole operon of several genes, all with
  expression data where there are some: the one where genes differ most in expression and about half
  of the bases lie in operons. The first of equals.

  Returns:
    None where the split holds no operon with data.
  """
  operons = marked_operons(store)
  best: tuple[float, int, int] | None = None
  for region_start, region_end in store.regions(split):
    last = min(region_end, store.length_bp)  # a picture does not pass the origin
    width = min(width_bp, last - region_start)
    for start in range(region_start, last - width + 1, STEP_BP):
      score = _interest(store, operons, start, start + width)
      if score is not None and (best is None or score > best[0]):
        best = score, start, start + width
  return best[1:] if best else None


def choose_region(store: TrackStore, split: str, width_bp: int = WIDTH_BP) -> tuple[int, int]:
  """Returns the region that `find_region` finds; the split's first where no operons are given.

  Raises:
    DataError: there is none.
  """
  region = find_region(store, split, width_bp)
  if region is None and not store.table.has_operons and store.regions(split):
    start, end = store.regions(split)[0]
    region = start, min(end, start + width_bp, store.length_bp)
  if region is None:
    raise DataError(f"the {split} split holds no operon with data; pass --region start-end")
  return region


def _interest(
  store: TrackStore, operons: Sequence[MarkedOperon], start: int, end: int
) -> float | None:
  """Scores how much a region shows; None without a whole operon with data."""
  genes = store.genes
  values = genes.log_tpm[:, 0]
  measured = ~np.isnan(values) | (not store.table.has_expression)
  touching = [o for o in operons if o.start < end and o.end > start]
  if not any(o.start >= start and o.end <= end and measured[list(o.rows)].all() for o in touching):
    return None
  inside = (genes.start >= start) & (genes.end <= end) & ~np.isnan(values)
  # Quartiles: ribosomal RNA is removed before sequencing, and its zeros say nothing.
  low, high = np.quantile(values[inside], (0.25, 0.75)) if inside.any() else (0.0, 1.0)
  covered = np.zeros(end - start, bool)
  for operon in touching:
    covered[max(operon.start - start, 0) : operon.end - start] = True
  fraction = float(covered.mean())
  return float(high - low) * 4 * fraction * (1 - fraction)


def organism(contig: Mapping[str, Any]) -> str:
  """Names the chromosome: its FASTA description up to the first comma, and its name."""
  description = str(contig.get("description", "")).split(",")[0]
  return f"{description} ({contig['name']})" if description else str(contig["name"])
