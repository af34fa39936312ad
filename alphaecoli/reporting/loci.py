"""Which stretches of the chromosome a reader is offered, from names or coordinates."""

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np

from alphaecoli.errors import ConfigError
from alphaecoli.inference.reference import Interval
from alphaecoli.observed import find_region, marked_operons
from alphaecoli.tracks.store import TrackStore

MIN_WIDTH_BP = 20_000  # around a gene


@dataclasses.dataclass(frozen=True)
class Locus:
  """A stretch with a name: 0-based, half-open, within 0 to L."""

  label: str
  start: int
  end: int


def choose_loci(store: TrackStore, text: str | None, split: str) -> list[Locus]:
  """The loci of the page.

  Args:
    store: the chromosome.
    text: genes, locus tags or contig:start-end (1-based, inclusive), with commas between; by
      default the stretch of the split that `alphaecoli.plot` would draw.
    split: whose stretch.

  Raises:
    ConfigError: something that is no gene and no stretch of this chromosome.
  """
  if text is None:
    region = find_region(store, split)
    return [Locus(f"a stretch of the {split} split", *region)] if region else []
  return [_locus(store, part) for part in (p.strip() for p in text.split(",")) if part]


def _locus(store: TrackStore, text: str) -> Locus:
  """One name or stretch."""
  if ":" in text:
    contig, start, end = Interval.parse(text)
    if contig != store.contig or end > store.length_bp:
      raise ConfigError(f"--loci {text}: expected a stretch of {store.contig}:1-{store.length_bp}")
    return Locus(text, start, end)
  genes = store.genes
  columns = (genes.name, genes.locus_tag, genes.gene_id)
  for column in columns:
    rows = np.flatnonzero(np.char.lower(column) == text.lower())
    if len(rows):
      return _around(store, int(rows[0]))
  known = [str(name) for name in genes.name]
  near = difflib.get_close_matches(text, known, 1)
  hint = f"; did you mean {near[0]}?" if near else ""
  raise ConfigError(
    f"--loci {text}: no gene of that name, locus tag or id, and no {store.contig}:start-end{hint}"
  )


def _around(store: TrackStore, row: int) -> Locus:
  """A gene with its operon and what lies about them."""
  genes = store.genes
  start, end = int(genes.start[row]), int(genes.end[row])
  for operon in marked_operons(store):
    if row in operon.rows:
      start, end = operon.start, operon.end
  width = min(max(end - start + MIN_WIDTH_BP // 2, MIN_WIDTH_BP), store.length_bp)
  first = min(max((start + end - width) // 2, 0), store.length_bp - width)
  return Locus(str(genes.name[row]) or str(genes.locus_tag[row]), first, first + width)


def merge(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
  """The union of intervals, in order, without overlaps."""
  merged: list[tuple[int, int]] = []
  for start, end in sorted(spans):
    if merged and start <= merged[-1][1]:
      merged[-1] = merged[-1][0], max(merged[-1][1], end)
    else:
      merged.append((start, end))
  return merged
