"""What the numbers of a prediction mean: tracks, units, transform and its inverse."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

TRANSFORM = "z = (mean over data sets of log(1 + TPM) - mean) / std"


@dataclasses.dataclass(frozen=True, slots=True)
class ExpressionTrack:
  """One expression track.

  Attributes:
    name: unique name; stranded tracks end in + or -.
    strand: "+", "-" or "." for both.
    datasets: names of the data sets whose log(1 + TPM) is averaged.
    mean: mean of log(1 + TPM) over the training split's genes, natural log.
    std: their standard deviation, > 0.
  """

  name: str
  strand: str
  datasets: tuple[str, ...]
  mean: float
  std: float


@dataclasses.dataclass(frozen=True, slots=True)
class TrackTable:
  """The targets a model was trained on, with the statistics of the training split.

  Attributes:
    expression: at least one track; without expression data one named "mean" with mean 0, std 1.
    density_mean: genes per 128 bp bin, mean over training bins.
    operon_prevalence: share of training bases inside an operon, in (0, 1).
    has_expression: whether expression was measured at all.
    has_operons: whether operons were given at all.
  """

  expression: tuple[ExpressionTrack, ...]
  density_mean: float
  operon_prevalence: float
  has_expression: bool
  has_operons: bool

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the expression tracks, in order."""
    return tuple(track.name for track in self.expression)

  @property
  def reverse_order(self) -> tuple[int, ...]:
    """Where each expression track comes from on the other strand: pairs name+ and name- swap."""
    position = {name: i for i, name in enumerate(self.names)}
    swap = {"+": "-", "-": "+"}
    return tuple(
      position[t.name[:-1] + swap[t.strand]] if t.strand in swap else i
      for i, t in enumerate(self.expression)
    )

  def to_log_tpm(self, z: Float[np.ndarray, "*S T"]) -> Float[np.ndarray, "*S T"]:
    """Inverts the z-score: natural log(1 + TPM)."""
    mean = np.array([t.mean for t in self.expression], np.float32)
    std = np.array([t.std for t in self.expression], np.float32)
    return np.asarray(z) * std + mean

  def to_tpm(self, z: Float[np.ndarray, "*S T"]) -> Float[np.ndarray, "*S T"]:
    """Inverts z-score and log: transcripts per million, at least 0."""
    return np.maximum(np.expm1(self.to_log_tpm(z)), 0)

  def to_json(self) -> dict[str, Any]:
    """A JSON object that from_json reads back."""
    return {"transform": TRANSFORM, **dataclasses.asdict(self)}

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> "TrackTable":
    """Reads what to_json wrote."""
    fields = {k: v for k, v in value.items() if k != "transform"}
    tracks = tuple(
      ExpressionTrack(**{**t, "datasets": tuple(t["datasets"])}) for t in fields.pop("expression")
    )
    return cls(expression=tracks, **fields)
