"""Models of genes that a checkpoint holds beside its network, one set an organism.

They weigh what the network predicts against what the sequence and the genes say by themselves.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from alphaecoli.genomics.coding_model import CodingModel
from alphaecoli.genomics.gene_features import (
  LINEAR_FEATURES,
  ContigGenes,
  ExpressionFeatures,
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
_ROWS = 512  # that trees look at together


@dataclasses.dataclass(frozen=True)
class Trees:
  """A sum of regression trees. A node is a split, or a leaf; the roots come first, tree by tree.

  Attributes:
    n: number of trees.
    feature: column that a split looks at, -1 of leaves.
    number: greatest value of that column that goes left, or the leaf's value.
    left: the node to the left; the next one is to the right. 0 of leaves.
  """

  n: int
  feature: Sequence[int]
  number: Sequence[float]
  left: Sequence[int]

  @classmethod
  def of_boosting(cls, model: Any) -> "Trees":
    """Takes the trees of scikit-learn's gradient boosting, without the value they start from."""
    trees = [estimator.tree_ for estimator in model.estimators_[:, 0]]
    nodes = [(tree, 0) for tree in trees]
    feature, number, left = list[int](), list[float](), list[int]()
    for tree, node in nodes:  # grows while it is read
      child = int(tree.children_left[node])
      if child < 0:
        feature.append(-1)
        number.append(model.learning_rate * float(tree.value[node, 0, 0]))
        left.append(0)
      else:
        feature.append(int(tree.feature[node]))
        number.append(float(tree.threshold[node]))
        left.append(len(nodes))
        nodes += [(tree, child), (tree, int(tree.children_right[node]))]
    return cls(len(trees), feature, number, left)

  def __call__(self, features: Float64[np.ndarray, "n F"]) -> Float64[np.ndarray, " n"]:
    """Adds up what each tree says of each row."""
    columns, number, left = self._arrays
    total = np.zeros(len(features))
    for rows in (slice(i, i + _ROWS) for i in range(0, len(features), _ROWS)):
      flat, n = features[rows].ravel(), len(features[rows])
      first = np.tile(features.shape[1] * np.arange(n), self.n)  # of each tree's rows
      at = np.repeat(np.arange(self.n), n)
      inside = np.flatnonzero(columns[at] >= 0)
      while inside.size:
        here = at[inside]
        right = flat[first[inside] + columns[here]] > number[here]
        at[inside] = here = left[here] + right
        inside = inside[columns[here] >= 0]
      for values in number[at].reshape(self.n, n):
        total[rows] += values
    return total

  @functools.cached_property
  def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns features, numbers and left nodes."""
    return np.array(self.feature), np.array(self.number), np.array(self.left)

  def times(self, factor: float) -> "Trees":
    """Returns trees whose sum is a multiple of this one."""
    scaled = [v if f >= 0 else v * factor for f, v in zip(self.feature, self.number, strict=True)]
    return dataclasses.replace(self, number=scaled)

  def to_json(self) -> dict[str, Any]:
    """Returns plain values; numbers have five digits."""
    number = [float(f"{value:.5g}") for value in self.number]
    return {**dataclasses.asdict(self), "number": number}


def _trees(value: Mapping[str, Any] | None) -> Trees | None:
  """Reads what `Trees.to_json` returned; None of a checkpoint from before there were trees."""
  return None if value is None else Trees(**value)


@dataclasses.dataclass(frozen=True)
class PairModel:
  """Log odds that two neighbours share an operon: linear in named features, and trees.

  Attributes:
    weights: by feature.
    bias: log odds where every feature is 0, without the trees.
    trees: of the columns `tree_features`; None of earlier checkpoints.
    tree_features: names of features.
  """

  weights: Mapping[str, float]
  bias: float
  trees: Trees | None = None
  tree_features: Sequence[str] = ()

  def log_odds(self, columns: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "p"]:
    """Returns the log odds of each pair.

    Raises:
      KeyError: a feature of the model is not among the columns.
    """
    parts = [weight * columns[name] for name, weight in self.weights.items()]
    if self.trees is not None:
      parts.append(self.trees(np.column_stack([columns[name] for name in self.tree_features])))
    return np.asarray(self.bias + sum(parts), np.float64)

  def probability(self, columns: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "p"]:
    """Returns the probability of each pair. Columns: see `log_odds`."""
    return np.asarray(np.exp(-np.logaddexp(0, -self.log_odds(columns))))

  def to_json(self) -> dict[str, Any]:
    """Returns plain values, and the version of the features."""
    value: dict[str, Any] = {"version": VERSION, "bias": self.bias, "weights": dict(self.weights)}
    if self.trees is not None:
      value |= {"trees": self.trees.to_json(), "tree_features": list(self.tree_features)}
    return value

  @classmethod
  def from_json(cls, value: Mapping[str, Any] | None) -> "PairModel | None":
    """Reads what `to_json` returned; None where there is none, or it is of another version."""
    if value is None or value["version"] != VERSION:
      return None
    trees = _trees(value.get("trees"))
    return cls(value["weights"], value["bias"], trees, value.get("tree_features", ()))


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


class TrackModel(NamedTuple):
  """A model of one expression track: linear, and trees.

  Attributes:
    mate_gap_bp: longest gap between likely operon mates.
    weights: of the first `LINEAR_FEATURES` columns of `ExpressionFeatures`.
    predicted: weight of the z-score that the network predicts.
    bias: z-score where everything is 0, without the trees.
    trees: of all columns; None of earlier checkpoints.
  """

  mate_gap_bp: float
  weights: Sequence[float]
  predicted: float
  bias: float
  trees: Trees | None = None


@dataclasses.dataclass(frozen=True)
class ExpressionModel:
  """z-scored expression of genes, by what their sequence says and what the network predicts.

  Attributes:
    tracks: model of each expression track, by name.
  """

  tracks: Mapping[str, TrackModel]

  def z(
    self, features: ExpressionFeatures, predicted: Float64[np.ndarray, "G T"]
  ) -> Float64[np.ndarray, "G T"]:
    """Returns the z-scores of genes.

    Args:
      features: of the genes of a contig.
      predicted: z-scores of each track that the network predicts.
    """
    found = np.empty(predicted.shape)
    for i, track in enumerate(self.tracks.values()):
      columns = features(track.mate_gap_bp)
      linear = columns[:, :LINEAR_FEATURES] @ np.array(track.weights) + track.bias
      trees = 0.0 if track.trees is None else track.trees(columns)
      found[:, i] = linear + trees + track.predicted * predicted[:, i]
    return found

  def to_json(self) -> dict[str, Any]:
    """Returns plain values, and the version of the features."""
    tracks = {}
    for name, track in self.tracks.items():
      value = track._replace(weights=np.round(track.weights, 5).tolist())._asdict()
      trees = value.pop("trees")
      tracks[name] = value if trees is None else {**value, "trees": trees.to_json()}
    return {"version": VERSION, "tracks": tracks}

  @classmethod
  def from_json(cls, value: Mapping[str, Any] | None) -> "ExpressionModel | None":
    """Reads what `to_json` returned; None where there is none, or it is of another version."""
    if value is None or value["version"] != VERSION:
      return None
    return cls(
      {
        name: TrackModel(**{**track, "trees": _trees(track.get("trees"))})
        for name, track in value["tracks"].items()
      }
    )


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
