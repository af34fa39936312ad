"""Metadata of predicted tracks: names, statistics, transform and its inverse."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from alphaecoli.errors import ConfigError
from alphaecoli.files import AnyPath, absolute, as_path, is_remote, user_cache
from alphaecoli.schema import HEADS, Head, LossWeights

UNKNOWN_OPERON = 2  # in operon_membership.npy, of a base in an operon that is not believed
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
    operon_prevalence: fraction of training bases inside an operon, in (0, 1).
    has_expression: whether any expression was measured.
    has_operons: whether operons were given.
  """

  expression: tuple[ExpressionTrack, ...]
  density_mean: float
  operon_prevalence: float
  has_expression: bool
  has_operons: bool

  @property
  def names(self) -> tuple[str, ...]:
    """Returns the names of the expression tracks, in order."""
    return tuple(track.name for track in self.expression)

  @property
  def reverse_order(self) -> tuple[int, ...]:
    """Returns the source of each expression track on the other strand: name+ and name- swap."""
    position = {name: i for i, name in enumerate(self.names)}
    swap = {"+": "-", "-": "+"}
    return tuple(
      position[t.name[:-1] + swap[t.strand]] if t.strand in swap else i
      for i, t in enumerate(self.expression)
    )

  def has_targets(self, head: str) -> bool:
    """Returns whether the data give targets for a head."""
    present = {
      "gene_expression": self.has_expression,
      "operon_membership": self.has_operons,
      "operon_junction": self.has_operons,
    }
    return present.get(head, True)

  def channels(self, head: Head) -> int:
    """Returns how many values a head gives at each position."""
    return head.channels or len(self.expression)

  def shape(self, head: Head, length_bp: int) -> tuple[int, int]:
    """Returns the shape of a head's values over so many bases; a last bin may be partial."""
    return -(-length_bp // head.resolution_bp), self.channels(head)

  @property
  def _statistics(self) -> Float[np.ndarray, "2 T"]:
    """Returns means and standard deviations of the tracks."""
    return np.array([(t.mean, t.std) for t in self.expression], np.float32).reshape(-1, 2).T

  def to_log_tpm(self, z: Float[np.ndarray, "*S T"]) -> Float[np.ndarray, "*S T"]:
    """Inverts the z-score: natural log(1 + TPM)."""
    mean, std = self._statistics
    return np.asarray(z) * std + mean

  def to_z(self, log_tpm: Float[np.ndarray, "*S T"]) -> Float[np.ndarray, "*S T"]:
    """Inverts `to_log_tpm`."""
    mean, std = self._statistics
    return (np.asarray(log_tpm) - mean) / std

  def to_tpm(self, z: Float[np.ndarray, "*S T"]) -> Float[np.ndarray, "*S T"]:
    """Inverts z-score and log: transcripts per million, at least 0."""
    return np.maximum(np.expm1(self.to_log_tpm(z)), 0)

  def to_json(self) -> dict[str, Any]:
    """Converts to a JSON object that `from_json` reads."""
    return {"transform": TRANSFORM, **dataclasses.asdict(self)}

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> "TrackTable":
    """Converts from the JSON object of `to_json`."""
    fields = {k: v for k, v in value.items() if k != "transform"}
    tracks = tuple(
      ExpressionTrack(**{**t, "datasets": tuple(t["datasets"])}) for t in fields.pop("expression")
    )
    return cls(expression=tracks, **fields)


@dataclasses.dataclass(frozen=True, slots=True)
class TrainedOrganism:
  """One organism of a checkpoint; its place in the list is its row of the embedding.

  Attributes:
    name: name as prepared; of a RegulonDB dump, the chromosome's.
    table: tracks with the organism's own statistics.
    store_fingerprint: fingerprint of the track store.
  """

  name: str
  table: TrackTable
  store_fingerprint: str

  def to_json(self) -> dict[str, Any]:
    """Converts to a JSON object that `organisms_of` reads."""
    return {
      "name": self.name,
      "table": self.table.to_json(),
      "store_fingerprint": self.store_fingerprint,
    }


def organisms_of(meta: Mapping[str, Any]) -> tuple[TrainedOrganism, ...]:
  """Returns the organisms of a checkpoint's meta item; an older one has one, without a name.

  Raises:
    KeyError or TypeError: it is broken.
  """
  if "organisms" not in meta:
    table = TrackTable.from_json(meta["table"])
    return (TrainedOrganism("", table, meta.get("store_fingerprint", "")),)
  return tuple(
    TrainedOrganism(o["name"], TrackTable.from_json(o["table"]), o["store_fingerprint"])
    for o in meta["organisms"]
  )


def choose_organism(organisms: Sequence[TrainedOrganism], organism: str | int | None) -> int:
  """Returns the row of an organism.

  Args:
    organisms: organisms of a checkpoint.
    organism: name or row; None where there is only one.

  Raises:
    ConfigError: there is no such organism, or there are several and none is named.
  """
  names = [o.name for o in organisms]
  if organism is None:
    if len(names) == 1:
      return 0
    raise ConfigError(
      f"this checkpoint knows {len(names)} organisms: {', '.join(names)}; choose one with "
      "--organism (in Python: organism=…)"
    )
  if organism in names:
    return names.index(str(organism))
  if str(organism).isdecimal() and int(organism) < len(names):
    return int(organism)
  raise ConfigError(
    f"organism={organism}; this checkpoint knows {', '.join(filter(None, names)) or 'one'}"
    f" (rows 0 to {len(names) - 1})"
  )


def active_weights(weights: LossWeights, table: TrackTable) -> LossWeights:
  """Returns the weights with 0 for heads that have no data."""
  absent = {head: 0.0 for head in HEADS if not table.has_targets(head)}
  return dataclasses.replace(weights, **absent)


def trained_heads(weights: LossWeights, table: TrackTable) -> tuple[str, ...]:
  """Returns the heads that have data and a weight above 0, in the order of the table of heads."""
  active = active_weights(weights, table)
  return tuple(head for head in HEADS if getattr(active, head) > 0)


def tracks_folder(workdir: AnyPath) -> Path:
  """Returns where the track stores of a run lie: in its directory, of one in a bucket in the cache.

  Raises:
    ConfigError: there is to be no cache.
  """
  if not is_remote(workdir):
    return workdir / "tracks"
  if (cache := user_cache()) is None:
    raise ConfigError(
      f"{workdir}: its track store needs a place on this machine: set ALPHAECOLI_CACHE to a "
      "directory, or data.store_dir"
    )
  return cache / "tracks"


def store_paths(
  meta: Mapping[str, Any], workdir: AnyPath, organism: str | int | None = None
) -> tuple[list[AnyPath], str]:
  """Returns where the track store of a run may lie, likeliest first, and its fingerprint.

  Args:
    meta: JSON item of a checkpoint of the run.
    workdir: directory of the run; of a fold, the stores of all lie beside it, even where all were
      moved.
    organism: name or row of one of several.

  Raises:
    ConfigError: no such organism, or several to choose from.
  """
  data, beside = meta["config"]["data"], tracks_folder(absolute(workdir).parent)
  if paths := data.get("stores"):
    trained = organisms_of(meta)
    row = choose_organism(trained, organism)
    path = as_path(paths[row]).expanduser()
    return [path, beside / path.name], trained[row].store_fingerprint
  folders = [tracks_folder(workdir)]
  if data["store_dir"]:
    folders = [Path(data["store_dir"]).expanduser(), *folders, beside]
  fingerprint = meta["store_fingerprint"]
  return [folder / fingerprint[:16] for folder in folders], fingerprint  # as process_data does
