"""Models of genes that a checkpoint holds beside its network, one set an organism.

They weigh what the network predicts against what the sequence and the genes say by themselves.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from alphaecoli.genomics.coding_model import CodingModel
from alphaecoli.genomics.gene_features import (
  PROTEIN,
  ContigGenes,
  Neighbourhood,
  expression_features,
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


KINDS = ("protein", "trna", "rrna", "other")


class TrackWeights(NamedTuple):
  """A linear model of one expression track.

  Attributes:
    mate_gap_bp: longest gap between likely operon mates.
    weights: of `expression_features` with the kinds of genes `KINDS`.
    predicted: weight of the z-score that the network predicts.
    bias: z-score where everything is 0.
  """

  mate_gap_bp: float
  weights: Sequence[float]
  predicted: float
  bias: float


@dataclasses.dataclass(frozen=True)
class ExpressionModel:
  """z-scored expression of genes, linear in their codon use and in what the network predicts.

  Attributes:
    tracks: weights of each expression track, by name.
  """

  tracks: Mapping[str, TrackWeights]

  def z(
    self,
    genes: ContigGenes,
    codons: Float64[np.ndarray, "G 64"],
    predicted: Float64[np.ndarray, "G T"],
  ) -> Float64[np.ndarray, "G T"]:
    """Returns the z-scores of genes.

    Args:
      genes: genes of the contig.
      codons: counts that `codon_counts` returns.
      predicted: z-scores of each track that the network predicts.
    """
    found = np.empty(predicted.shape)
    for i, track in enumerate(self.tracks.values()):
      features = model_features(genes, codons, track.mate_gap_bp)
      found[:, i] = features @ np.array(track.weights) + track.bias
    return found + predicted * np.array([track.predicted for track in self.tracks.values()])

  def to_json(self) -> dict[str, Any]:
    """Returns plain values, and the version of the features."""
    tracks = {
      name: track._replace(weights=np.round(track.weights, 5).tolist())._asdict()
      for name, track in self.tracks.items()
    }
    return {"version": VERSION, "tracks": tracks}

  @classmethod
  def from_json(cls, value: Mapping[str, Any] | None) -> "ExpressionModel | None":
    """Reads what `to_json` returned; None where there is none, or it is of another version."""
    if value is None or value["version"] != VERSION:
      return None
    return cls({name: TrackWeights(**track) for name, track in value["tracks"].items()})


def model_features(
  genes: ContigGenes, codons: Float64[np.ndarray, "G 64"], mate_gap_bp: float
) -> Float64[np.ndarray, "G F"]:
  """Returns `expression_features` with kinds of genes that any annotation's types belong to."""
  named = dataclasses.replace(genes, type=_kinds(genes.type))
  return expression_features(named, codons, mate_gap_bp, KINDS)


def _kinds(types: Shaped[np.ndarray, " G"]) -> Shaped[np.ndarray, " G"]:
  """Returns the kind of genes of any type."""
  lower = np.char.lower(types.astype(np.str_))
  found = np.full(len(types), KINDS[-1], dtype="<U8")
  found[np.isin(lower, PROTEIN)] = KINDS[0]
  for kind in KINDS[1:3]:
    found[np.char.find(lower, kind) >= 0] = kind
  return found


@dataclasses.dataclass(frozen=True)
class DensityModel:
  """Genes per bin of 128 bp, linear in what the genes called in it say and what the network does.

  Attributes:
    weights: of the number of called genes in the bin, whether it is one, two or more, the numbers
      in the bins before and after, the share of its bases in genes, and the predicted density.
    bias: genes per bin where all are 0.
  """

  weights: Sequence[float]
  bias: float

  def to_json(self) -> dict[str, Any]:
    """Returns plain values, and the version of the features."""
    return {"version": VERSION, **dataclasses.asdict(self)}

  @classmethod
  def from_json(cls, value: Mapping[str, Any] | None) -> "DensityModel | None":
    """Reads what `to_json` returned; None where there is none, or it is of another version."""
    if value is None or value["version"] != VERSION:
      return None
    return cls(value["weights"], value["bias"])


@dataclasses.dataclass(frozen=True)
class GeneModels:
  """All of them; None where one could not be fitted.

  Attributes:
    calls: tells genes from other open reading frames.
    pairs: tells neighbours that share an operon from others.
    expression: predicts the expression of annotated genes.
    density: predicts genes per bin from called genes.
  """

  calls: CodingModel | None = None
  pairs: PairModel | None = None
  expression: ExpressionModel | None = None
  density: DensityModel | None = None

  def to_json(self) -> dict[str, Any]:
    """Returns what each returns."""
    found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return {name: model.to_json() for name, model in found.items() if model is not None}

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> "GeneModels":
    """Reads what `to_json` returned; models of another version are left out."""
    return cls(
      CodingModel.from_json(value.get("calls")),
      PairModel.from_json(value.get("pairs")),
      ExpressionModel.from_json(value.get("expression")),
      DensityModel.from_json(value.get("density")),
    )
