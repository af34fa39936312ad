"""Operons, pairs of neighbouring genes that share one, and what gene models make of predictions.

Positions are 0-based and half-open; an end past a circular contig's length passes the origin.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, UInt8
from scipy import special

from alphaecoli.genomics.gene_features import ContigGenes, ExpressionFeatures, codon_counts
from alphaecoli.genomics.gene_models import (
  EXPRESSION,
  JUNCTION,
  GeneModels,
  pair_features,
)
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.intervals import neighbours, regions_of
from alphaecoli.inference.prediction import OPERON_THRESHOLD, Prediction, from_z
from alphaecoli.tracks.gene_targets import junction_interval

# Without genes: gaps that are closed, and the shortest region that counts, a short gene's length.
GAP_BP, SHORTEST_BP = 100, 300
_SIDES = ("left", "right")
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


class PredictedGenes:
  """The genes of a contig, with what gene models need of them: computed once for all members.

  The models are those of a checkpoint, or of each member of an ensemble. Where a prediction has
  what each member says, the mean over members decides, else that over those that predicted a gene.
  """

  def __init__(self, genes: Sequence[Gene], codes: UInt8[np.ndarray, " L"], circular: bool):
    """Takes genes in the order of `in_order`, and the bases of their contig."""
    self.genes = genes
    self._contig = ContigGenes.of(genes, codes, circular)

  @functools.cached_property
  def codons(self) -> Float64[np.ndarray, "G 64"]:
    """Counts the codons of each gene."""
    return codon_counts(self._contig)

  @functools.cached_property
  def _of_expression(self) -> ExpressionFeatures:
    """Prepares the features of expression models."""
    return ExpressionFeatures(self._contig, self.codons)

  @functools.cached_property
  def _of_pairs(self) -> dict[str, Float64[np.ndarray, " p"]]:
    """Computes the features of neighbours, in the order of `gene_pairs`."""
    length = self._contig.length_bp if self._contig.circular else None
    found = neighbours(self._contig.start, self._contig.end, self._contig.strand, length)
    places = (found.left, found.right, found.distance_bp)
    return pair_features(self._contig, self.codons, *places)

  def pairs(
    self, prediction: Prediction, models: Sequence[GeneModels]
  ) -> tuple[list[GenePair], list[list[GenePair]]]:
    """Finds neighbours on one strand, with all probabilities that a prediction gives them.

    Args:
      prediction: tracks of the whole contig.
      models: gene models of the checkpoint, or of each member of the ensemble.

    Returns:
      Pairs; and the same by each member, where the prediction has what each member says.
    """
    if prediction.members:
      each = zip(prediction.members, models, strict=False)
      members = [self.pairs(member, [own])[0] for member, own in each]
      return with_mean_annotated(self._plain_pairs(prediction), members), members
    pairs, models = self._plain_pairs(prediction), _used(prediction, models)
    known = [own.pairs for own in models if own.pairs is not None]
    if not pairs or not known or len(known) < len(models):
      return pairs, []
    odds = special.logit(np.clip(prediction.operon_junction.astype(np.float64), _SURE, 1 - _SURE))
    z = self._z(prediction)
    left, right = (np.array([getattr(p, key) for p in pairs], np.int64) for key in _SIDES)
    columns = self._of_pairs | {
      JUNCTION: np.array(_junction_means(self.genes, pairs, odds), np.float64),
      EXPRESSION: np.abs(z[left] - z[right]).mean(axis=1),
    }
    values = np.stack([model.probability(columns) for model in known])
    values = np.average(values, axis=0, weights=self._shares(prediction, len(known))[:, left])
    found = [
      dataclasses.replace(pair, probability_annotated=value)
      for pair, value in zip(pairs, values.tolist(), strict=True)
    ]
    return found, []

  def log_tpm(
    self, prediction: Prediction, models: Sequence[GeneModels]
  ) -> Float64[np.ndarray, "G T"] | None:
    """Returns what expression models make of a prediction, in ln(1 + TPM).

    Args:
      prediction: tracks of the whole contig.
      models: gene models of the checkpoint, or of each member of the ensemble.

    Returns:
      The values of each gene; None without genes, or where a model of expression is missing.
    """
    if prediction.members:
      each = zip(prediction.members, models, strict=False)
      members = [self.log_tpm(member, [own]) for member, own in each]
      known = [values for values in members if values is not None]
      return np.mean(known, axis=0) if len(known) == len(members) else None
    models = _used(prediction, models)
    fits = [model.expression for model in models if model.expression is not None]
    if not fits or len(fits) < len(models) or not self.genes:
      return None
    own = self._z(prediction)
    z = np.stack([model.z(self._of_expression, own) for model in fits])
    shares = self._shares(prediction, len(fits))
    mean = np.average(z, axis=0, weights=np.broadcast_to(shares[..., None], z.shape))
    return np.asarray(from_z(mean, "log_tpm", prediction.table), np.float64)

  def _plain_pairs(self, prediction: Prediction) -> list[GenePair]:
    """Finds pairs with what the heads alone say."""
    pairs = gene_pairs(self.genes, prediction.operon_membership[:, 0], prediction.circular)
    if not len(prediction.operon_junction):
      return pairs
    return by_junction(self.genes, pairs, prediction.operon_junction)

  def _z(self, prediction: Prediction) -> Float64[np.ndarray, "G T"]:
    """Averages predicted z-scores over the bases of genes."""
    z = prediction.in_units("z").gene_expression
    means = [z[gene.bases(len(z))].mean(axis=0, dtype=np.float64) for gene in self.genes]
    return np.array(means).reshape(len(self.genes), z.shape[1])

  def _shares(self, prediction: Prediction, n: int) -> Float64[np.ndarray, "n G"]:
    """Returns which of the n models used count for a gene: those that predicted its last base."""
    if prediction.origin is None or n == 1:
      return np.ones((n, len(self.genes)))
    ends = np.array([gene.end - 1 for gene in self.genes], np.int64) % self._contig.length_bp
    by = prediction.origin.by
    return by[np.ix_(by.any(axis=1), ends)].astype(np.float64)


def _used(prediction: Prediction, models: Sequence[GeneModels]) -> Sequence[GeneModels]:
  """Returns the models of those that a prediction without members is by."""
  if prediction.origin is None:
    return models[:1]
  used = np.flatnonzero(prediction.origin.by.any(axis=1)).tolist()
  return [models[number] for number in used]


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
