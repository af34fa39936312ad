"""Genes and operons of a contig, found by where they lie, in a model's window."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from alphaecoli.annotation.records import AnnotatedGene, PlacedGene
from alphaecoli.inference.edits import View


class Surroundings:
  """What is known of one contig beside its sequence.

  Attributes:
    genes: its genes.
    operons: 0-based stretches of its operons; None where none were given.
  """

  def __init__(
    self, genes: Sequence[PlacedGene] = (), operons: Sequence[tuple[int, int]] | None = None
  ):
    self.genes, self.operons = genes, operons
    self._gene_spans = _as_array([(p.gene.start, p.gene.end) for p in genes])
    self._operon_spans = _as_array(operons or ())

  def genes_in(self, view: View) -> list[PlacedGene]:
    """The genes that the view shows, at least in part, in their order."""
    return [self.genes[i] for i in np.flatnonzero(_touches(self._gene_spans, view)).tolist()]

  def operons_in(self, view: View) -> list[tuple[int, int]]:
    """The given operons that the view shows, at least in part, in their order."""
    spans = self._operon_spans[_touches(self._operon_spans, view)]
    return [(start, end) for start, end in spans.tolist()]


def distance_bp(gene: AnnotatedGene, start: int, end: int, view: View) -> int:
  """From a gene to a stretch: 0 if they touch, negative before the gene's start as it is read.

  -1 is the base before the gene's first one, 1 the base after its last one.
  """
  first = gene.start
  if view.circular:  # the copy of the gene that lies nearest
    away = (first + gene.end - start - end) / 2
    first -= view.length_bp * round(away / view.length_bp)
  last = first + gene.end - gene.start
  gap = 0
  if start >= last:
    gap = start - last + 1
  elif end <= first:
    gap = end - first - 1
  return -gap if gene.strand < 0 else gap


def _as_array(spans: Sequence[tuple[int, int]]) -> Int[np.ndarray, "n 2"]:
  """Starts and ends."""
  return np.array(list(spans), np.int64).reshape(-1, 2)


def _touches(spans: Int[np.ndarray, "n 2"], view: View) -> Bool[np.ndarray, " n"]:
  """Which stretches the view shows, at least in part."""
  low, high = view.first + view.low, view.first + view.high
  start, end = spans.T
  if not view.circular:
    return (start < high) & (end > low)
  begin = (start - low) % view.length_bp
  return (begin < high - low) | (begin + end - start > view.length_bp)
