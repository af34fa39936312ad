"""Small models of the genes of one organism that a checkpoint holds beside its network.

They weigh what the network predicts against what the sequence and the genes say by themselves.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from alphaecoli.genomics.coding_model import CodingModel
from alphaecoli.genomics.gene_features import PROTEIN, ContigGenes, expression_features
from alphaecoli.genomics.operon_pairs import PairModel

VERSION = (
  1  # of the features of expression and density: raise it when one comes to mean something else
)
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
