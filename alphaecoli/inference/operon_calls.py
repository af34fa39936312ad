"""Operons and pairs of neighbouring genes that share one, from predicted probabilities.

Positions are 0-based and half-open; an end past a circular contig's length passes the origin.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, UInt8
from scipy import special

from alphaecoli.genomics.gene_features import ContigGenes, codon_counts
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.intervals import neighbours, regions_of
from alphaecoli.genomics.operon_pairs import EXPRESSION, JUNCTION, PairModel, pair_features
from alphaecoli.inference.prediction import OPERON_THRESHOLD, Prediction
from alphaecoli.tracks.gene_targets import junction_interval

# Without genes: gaps that are closed, and the shortest region that counts, a short gene's length.
GAP_BP, SHORTEST_BP = 100, 300
_SURE = 1e-6  # probabilities nearer to 0 or 1 count as this one


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
    probability_annotated: what the checkpoint's pair model makes of the junction and of the genes.
  """

  left: int
  right: int
  distance_bp: int
  probability: float
  probability_membership: float | None = None
  probability_annotated: float | None = None

  @property
  def best(self) -> float:
    """Returns the probability that decides: that of the pair model, where there is one."""
    return self.probability if self.probability_annotated is None else self.probability_annotated


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
  codes: UInt8[np.ndarray, " L"],
  prediction: Prediction,
  models: Sequence[PairModel | None] = (),
) -> list[GenePair]:
  """Finds neighbours on one strand, with all probabilities that a prediction gives them.

  Args:
    genes: genes of the contig, in the order of `in_order`.
    codes: bases of the contig.
    prediction: tracks of the whole contig.
    models: pair models of the checkpoints that predicted them, as many as these, where they have
      some; of several, each pair is judged by those that predicted the end of its first gene.
  """
  pairs = gene_pairs(genes, prediction.operon_membership[:, 0], prediction.circular)
  if len(prediction.operon_junction):
    pairs = by_junction(genes, pairs, prediction.operon_junction)
  known = [model for model in models if model is not None]
  if not known or len(known) < len(models):
    return pairs
  return by_annotation(genes, codes, pairs, prediction, known)


def pairs_by_all(
  genes: Sequence[Gene],
  codes: UInt8[np.ndarray, " L"],
  prediction: Prediction,
  models: Sequence[PairModel | None],
) -> tuple[list[GenePair], list[list[GenePair]]]:
  """Finds pairs as `pairs_of` does, with the pair models of a checkpoint or of all members.

  Args:
    genes: genes of the contig, in the order of `in_order`.
    codes: bases of the contig.
    prediction: tracks of the whole contig.
    models: pair model of the checkpoint, or of each member of the ensemble.

  Returns:
    Pairs; and the same by each member, where the prediction has what each member says. Then the
    mean over members decides, else that over those that predicted a pair.
  """
  if prediction.members:
    each = zip(prediction.members, models, strict=False)
    members = [pairs_of(genes, codes, member, [model]) for member, model in each]
    return with_mean_annotated(pairs_of(genes, codes, prediction), members), members
  alone = models[: len(prediction.origin.by) if prediction.origin else 1]
  return pairs_of(genes, codes, prediction, alone), []


def with_mean_annotated(
  pairs: Sequence[GenePair], members: Sequence[Sequence[GenePair]]
) -> list[GenePair]:
  """Gives pairs the mean of what the members' pair models say, where all of them have one."""
  if not members:
    return list(pairs)
  found = []
  for pair, each in zip(pairs, zip(*members, strict=True), strict=True):
    values = [member.probability_annotated for member in each]
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if len(known) == len(values) else None
    found.append(dataclasses.replace(pair, probability_annotated=mean))
  return found


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
  means = _junction_means(genes, pairs, junction)
  return [
    dataclasses.replace(pair, probability=mean, probability_membership=pair.probability)
    for pair, mean in zip(pairs, means, strict=True)
  ]


def by_annotation(
  genes: Sequence[Gene],
  codes: UInt8[np.ndarray, " L"],
  pairs: Sequence[GenePair],
  prediction: Prediction,
  models: Sequence[PairModel],
) -> list[GenePair]:
  """Adds the probability that the pair models give, from the junctions and the genes.

  Args:
    genes: genes of the contig, in the order of `in_order`.
    codes: bases of the contig.
    pairs: pairs that `gene_pairs` finds.
    prediction: tracks of the whole contig.
    models: pair models, as for `pairs_of`.
  """
  contig = ContigGenes.of(genes, codes, prediction.circular)
  left, right, gap = (
    np.array([getattr(pair, key) for pair in pairs], np.int64)
    for key in ("left", "right", "distance_bp")
  )
  columns = pair_features(contig, codon_counts(contig), left, right, gap)
  odds = special.logit(np.clip(prediction.operon_junction.astype(np.float64), _SURE, 1 - _SURE))
  columns[JUNCTION] = np.array(_junction_means(genes, pairs, odds), np.float64)
  z = prediction.in_units("z").gene_expression
  means = [z[gene.bases(len(z))].mean(axis=0, dtype=np.float64) for gene in genes]
  expression = np.array(means).reshape(len(genes), z.shape[1])
  columns[EXPRESSION] = np.abs(expression[left] - expression[right]).mean(axis=1)
  each = np.stack([model.probability(columns) for model in models])
  weights = np.ones(each.shape)
  if prediction.origin is not None and len(models) > 1:
    ends = np.array([genes[pair.left].end - 1 for pair in pairs], np.int64) % len(codes)
    weights = prediction.origin.by[:, ends].astype(float)
  return [
    dataclasses.replace(pair, probability_annotated=value)
    for pair, value in zip(pairs, np.average(each, axis=0, weights=weights).tolist(), strict=True)
  ]


def _junction_means(
  genes: Sequence[Gene], pairs: Sequence[GenePair], values: Float[np.ndarray, "L 2"]
) -> list[float]:
  """Averages values over the junction of each pair, on its strand."""
  means = {1: _Means(values[:, 0]), -1: _Means(values[:, 1])}
  found = []
  for pair in pairs:
    left, right = genes[pair.left], genes[pair.right]
    wrapped = len(values) if pair.right < pair.left else 0  # only the origin lies between
    follower = right.start + wrapped, right.end + wrapped
    found.append(means[left.strand].of(*junction_interval((left.start, left.end), follower)))
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
  links = {pair.left: pair for pair in pairs if pair.best >= threshold}
  if genes and len(links) == len(genes):
    del links[min(links, key=lambda left: links[left].best)]
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
