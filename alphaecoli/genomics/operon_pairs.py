"""Whether two neighbouring genes of one strand share an operon: features of pairs, and their model.

The features are those of a linear rival of the model (docs/evaluation.md), and with them a small
logistic model weighs what a checkpoint's own junction score says.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from alphaecoli.genomics.gene_features import (
  ContigGenes,
  Neighbourhood,
  frequencies,
  neighbourhood,
  promoters,
  terminators,
)

Columns = dict[str, Float64[np.ndarray, "p"]]  # features by name
JUNCTION, EXPRESSION = "junction", "expression_difference"  # what the checkpoint's own model says
VERSION = 1  # raise it when a feature comes to mean something else
_LONGEST_GAP_BP = 1000


@dataclasses.dataclass(frozen=True)
class PairModel:
  """A logistic model: log odds that two neighbours share an operon, linear in named features.

  Attributes:
    weights: by feature.
    bias: log odds where every feature is 0.
  """

  weights: Mapping[str, float]
  bias: float

  def log_odds(self, columns: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "p"]:
    """Returns the log odds of each pair.

    Raises:
      KeyError: a feature of the model is not among the columns.
    """
    parts = (weight * columns[name] for name, weight in self.weights.items())
    return np.asarray(self.bias + sum(parts), np.float64)

  def probability(self, columns: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "p"]:
    """Returns the probability of each pair. Columns: see `log_odds`."""
    return np.asarray(np.exp(-np.logaddexp(0, -self.log_odds(columns))))

  def to_json(self) -> dict[str, Any]:
    """Returns weights and bias, and the version of the features."""
    return {"version": VERSION, "bias": self.bias, "weights": dict(self.weights)}

  @classmethod
  def from_json(cls, value: Mapping[str, Any] | None) -> "PairModel | None":
    """Reads what `to_json` returned; None where there is none, or it is of another version."""
    if value is None or value["version"] != VERSION:
      return None
    return cls(value["weights"], value["bias"])


def pair_features(
  genes: ContigGenes,
  codons: Float64[np.ndarray, "G 64"],
  left: Int64[np.ndarray, "p"],
  right: Int64[np.ndarray, "p"],
  gap_bp: Int64[np.ndarray, "p"],
) -> Columns:
  """Returns, by name, what may tell whether two neighbouring genes of one strand share an operon.

  The gap, the gaps to the genes before and after the two in the direction of transcription, their
  lengths, the best promoter before the second gene, the best terminator after the first, and how
  alike their codon use is.

  Args:
    genes: genes of the contig.
    codons: counts that `codon_counts` returns.
    left: rows of the genes that come first on the forward strand.
    right: rows of those that follow.
    gap_bp: gap between the two, negative where they overlap.
  """
  near = neighbourhood(genes)
  forward = genes.strand[left] > 0
  before = near.place[left] - 1  # -1 is the last gene: on a linear contig it is linked to none
  after = near.place[right]
  upstream, downstream = np.where(forward, before, after), np.where(forward, after, before)
  first, second = np.where(forward, left, right), np.where(forward, right, left)
  gap = gap_bp.astype(np.float64)
  length = np.log(np.maximum(genes.end - genes.start, 1))
  use = frequencies(codons)
  bits = promoters(genes, second, gap)
  columns = {
    "overlap": np.clip(gap, -50, 0),
    "log_gap": np.log1p(np.clip(gap, 0, _LONGEST_GAP_BP)),
    "gap": np.clip(gap, -50, 500),
    "gap_below_-8": gap < -8,
    "gap_-8_to_0": (gap >= -8) & (gap < 0),
    **{f"gap_above_{limit}": gap > limit for limit in (30, 60, 100, 200)},
    **_neighbour("upstream", near, upstream),
    **_neighbour("downstream", near, downstream),
    "log_length_first": length[first],
    "log_length_second": length[second],
    "log_length_shorter": np.minimum(length[first], length[second]),
    "both_coding": genes.coding[left] & genes.coding[right],
    "promoter": bits[:, 0],
    "promoter_near": bits[:, 1],
    "promoter_in_gap": bits[:, 2],
    "terminator": terminators(genes, first, gap),
    "codon_distance": np.abs(use[left] - use[right]).sum(axis=1),
    "codon_correlation": _correlation(use[left], use[right]),
  }
  return {name: np.asarray(values, np.float64) for name, values in columns.items()}


def _neighbour(
  side: str, near: Neighbourhood, place: Int64[np.ndarray, "p"]
) -> dict[str, np.ndarray]:
  """Describes the gap after the gene at a place."""
  gap = near.gap_bp[place]
  return {
    f"log_gap_{side}": np.log1p(np.clip(gap, 0, _LONGEST_GAP_BP)),
    **{f"gap_{side}_above_{limit}": gap > limit for limit in (50, 100, 200)},
    f"linked_{side}": near.linked[place],
  }


def _correlation(
  a: Float64[np.ndarray, "p C"], b: Float64[np.ndarray, "p C"]
) -> Float64[np.ndarray, "p"]:
  """Returns Pearson's correlation of rows; 0 where one is constant."""
  a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
  norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
  return np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0)
