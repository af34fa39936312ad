"""Operons and pairs of neighbouring genes that share one, from predicted probabilities.

Positions are 0-based and half-open; an end past a circular contig's length passes the origin.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.intervals import neighbours, regions_of
from alphaecoli.tracks.gene_targets import junction_interval

OPERON_THRESHOLD = 0.5
# Without genes: gaps that are closed, and the shortest region that counts, a short gene's length.
GAP_BP, SHORTEST_BP = 100, 300


@dataclasses.dataclass(frozen=True, slots=True)
class GenePair:
  """Two neighbouring genes on one strand.

  Attributes:
    left: the gene that starts first, by its number on the contig.
    right: the one that follows.
    distance_bp: between them, negative where they overlap.
    probability: that they share an operon: mean predicted probability of the bases between the two
      midpoints to lie in an operon of several genes; of `by_junction`, the junction's.
    probability_membership: the former, where `probability` is the latter.
  """

  left: int
  right: int
  distance_bp: int
  probability: float
  probability_membership: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PredictedOperon:
  """A predicted operon.

  Attributes:
    start: its first base.
    end: the base after its last.
    strand: of its genes; 0 where it was called without genes, since the head has no strand.
    probability: mean predicted probability over its bases.
    genes: numbers of its genes on the contig, from left to right.
  """

  start: int
  end: int
  strand: int
  probability: float
  genes: tuple[int, ...] = ()


def in_order(genes: Sequence[Gene]) -> list[Gene]:
  """Sorts genes by where they start, then end."""
  return sorted(genes, key=lambda gene: (gene.start, gene.end))


def pairs_of(
  genes: Sequence[Gene],
  membership: Float[np.ndarray, " L"],
  junction: Float[np.ndarray, "J 2"],
  circular: bool,
) -> list[GenePair]:
  """Finds pairs as `gene_pairs` does, with the probabilities of `by_junction` where it is known."""
  pairs = gene_pairs(genes, membership, circular)
  return by_junction(genes, pairs, junction) if len(junction) else pairs


def gene_pairs(
  genes: Sequence[Gene], membership: Float[np.ndarray, " L"], circular: bool
) -> list[GenePair]:
  """Finds neighbours on one strand, with the probability that they share an operon.

  Args:
    genes: genes of the contig, in the order of `in_order`.
    membership: probability of each base of the contig.
    circular: whether the last gene has the first one as its neighbour.
  """
  first, last, strand = (
    np.array([getattr(gene, key) for gene in genes], np.int64) for key in ("start", "end", "strand")
  )
  found = neighbours(first, last, strand, len(membership) if circular else None)
  means = _Means(membership)
  return [
    GenePair(int(left), int(right), int(distance), means.of(int(low), int(high)))
    for left, right, low, high, distance in zip(*found, strict=True)
  ]


def by_junction(
  genes: Sequence[Gene], pairs: Sequence[GenePair], junction: Float[np.ndarray, "L 2"]
) -> list[GenePair]:
  """Replaces the probability of pairs by the mean over their junction, on their strand.

  Args:
    genes: genes of the contig, in the order of `in_order`.
    pairs: pairs that `gene_pairs` finds.
    junction: probability that the two genes beside a base share an operon, for each base of the
      contig on the forward and on the reverse strand.
  """
  means = {1: _Means(junction[:, 0]), -1: _Means(junction[:, 1])}
  found = []
  for pair in pairs:
    left, right = genes[pair.left], genes[pair.right]
    wrapped = len(junction) if pair.right < pair.left else 0  # only the origin lies between
    follower = right.start + wrapped, right.end + wrapped
    probability = means[left.strand].of(*junction_interval((left.start, left.end), follower))
    found.append(
      dataclasses.replace(pair, probability=probability, probability_membership=pair.probability)
    )
  return found


def operons_of_genes(
  genes: Sequence[Gene],
  pairs: Sequence[GenePair],
  membership: Float[np.ndarray, " L"],
  threshold: float = OPERON_THRESHOLD,
) -> list[PredictedOperon]:
  """Finds chains of neighbours, each pair of which reaches the threshold.

  On a circular contig where every gene is linked to the next, the chain opens at its weakest pair.
  """
  links = {pair.left: pair for pair in pairs if pair.probability >= threshold}
  if genes and len(links) == len(genes):
    del links[min(links, key=lambda left: links[left].probability)]
  means, length = _Means(membership), len(membership)
  followers = {pair.right for pair in links.values()}
  operons = []
  for head in sorted(links.keys() - followers):
    chain = [head]
    while chain[-1] in links:
      chain.append(links[chain[-1]].right)
    start, end = genes[head].start, genes[head].end
    for gene in (genes[i] for i in chain[1:]):
      wrapped = length if gene.start < start else 0  # only the origin lies between
      end = max(end, gene.end + wrapped)
    end = min(end, start + length)
    operons.append(
      PredictedOperon(start, end, genes[head].strand, means.of(start, end), tuple(chain))
    )
  return sorted(operons, key=lambda operon: (operon.start, operon.end))


def operons_of_bases(
  membership: Float[np.ndarray, " L"], circular: bool, threshold: float = OPERON_THRESHOLD
) -> list[PredictedOperon]:
  """Finds regions above the threshold: gaps up to 100 bp closed, at least 300 bp long."""
  regions = regions_of(membership >= threshold, GAP_BP, circular)
  means = _Means(membership)
  return [PredictedOperon(a, b, 0, means.of(a, b)) for a, b in regions if b - a >= SHORTEST_BP]


class _Means:
  """Means over regions of a contig, by cumulative sums; also across the origin."""

  def __init__(self, values: Float[np.ndarray, " L"]):
    self._sums: Float64[np.ndarray, " M"] = np.concatenate([[0.0], np.cumsum(values, dtype=float)])

  def of(self, start: int, end: int) -> float:
    """Returns the mean from start to end, which may lie past the origin."""
    return float((self._to(end) - self._to(start)) / (end - start))

  def _to(self, end: int) -> float:
    """Sums from the contig's start to a position, which may lie past the origin."""
    whole, rest = divmod(end, len(self._sums) - 1)
    return whole * self._sums[-1] + self._sums[rest]
