"""In-silico mutagenesis: every single-base substitution of a region, and its effect elsewhere."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int, UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.files import optional
from alphaecoli.genomics.sequence import UNKNOWN, Contig, decode
from alphaecoli.inference.arguments import AnnotatedGenome, Interval, locate
from alphaecoli.inference.prediction import spread_of
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tiling import window_start
from alphaecoli.tracks.track_table import TrackTable
from alphaecoli.variants.edits import Edit, View, alternative
from alphaecoli.variants.scores import (
  Effect,
  change_variables,
  channel_names,
  channels,
  mean_of,
  mean_over,
)

if TYPE_CHECKING:
  import pandas
  import xarray


BASES = "ACGT"
SUBSTITUTIONS, GRADIENT, INTEGRATED = ("substitutions", "gradient", "integrated")


class Target(NamedTuple):
  """The bases over whose mean an effect is measured.

  Attributes:
    name: in words, for tables and pictures.
    positions: on the contig; modulo its length if that is circular.
    strand: in which it is read; 0 if in neither.
  """

  name: str
  positions: Int[np.ndarray, " n"]
  strand: int = 0


@dataclasses.dataclass(frozen=True)
class Mutagenesis:
  """Effects of all substitutions in a region.

  Attributes:
    contig: its name.
    length_bp: bases of the contig.
    start: first base of the region, 0-based; on a circular contig it may lie below 0.
    reference: codes of the region's bases.
    changes: for each position and base A C G T, the mean over the target of each channel with the
      base put there, minus that without: 0 for the reference's own base, NaN where that is
      unknown. Channels: ln(1 + TPM) of each expression track, genes per 128 bp, probability.
    spread: deviation of `changes` over an ensemble's members; None for a single model.
    method: how they were found; gradients give first-order estimates of the changes.
    baseline: the mean over the target without any change.
    target: what was measured.
    target_share: of the target's bases in the window.
    window: first base of the model's window and the base after its last, 0-based.
    table: the tracks.
  """

  contig: str
  length_bp: int
  start: int
  reference: UInt8[np.ndarray, " n"]
  changes: Float32[np.ndarray, "n 4 C"]
  baseline: Effect
  target: Target
  target_share: float
  window: tuple[int, int]
  table: TrackTable
  spread: Float32[np.ndarray, "n 4 C"] | None = None
  method: str = SUBSTITUTIONS

  @property
  def end(self) -> int:
    """Returns the base after the region's last."""
    return self.start + len(self.reference)

  @property
  def channel_names(self) -> list[str]:
    """Returns the names of the channels, in order."""
    return channel_names(self.table)

  def importance(self, channel: str) -> Float32[np.ndarray, " n"]:
    """Computes each reference base's worth to the target: minus the mean of its substitutions.

    Raises:
      ConfigError: no such channel.
    """
    # The reference's own change is 0: the sum over four bases is that over three substitutions.
    return -self.changes[:, :, self.channel(channel)].sum(axis=1) / 3

  def channel(self, name: str) -> int:
    """Finds the index of a channel.

    Raises:
      ConfigError: there is no such channel.
    """
    if name not in self.channel_names:
      raise ConfigError(f"no channel {name!r}; expected one of {', '.join(self.channel_names)}")
    return self.channel_names.index(name)

  def columns(self) -> list[str]:
    """Names the columns of its table; `pos` is 1-based."""
    columns = ["contig", "pos", "ref", "alt", *channel_names(self.table, "change")]
    return columns + (channel_names(self.table, "change_spread") if self.spread is not None else [])

  def rows(self) -> Iterator[list[str | int | float]]:
    """Yields one row for each substitution."""
    parts = [self.changes] if self.spread is None else [self.changes, self.spread]
    for offset, code in enumerate(self.reference.tolist()):
      for base in range(4):
        if code not in (base, UNKNOWN):
          values = np.concatenate([part[offset, base] for part in parts]).astype(float).tolist()
          position = (self.start + offset) % self.length_bp + 1
          yield [self.contig, position, BASES[code], BASES[base], *values]

  def to_numpy(self) -> Float32[np.ndarray, "n 4 C"]:
    """Returns `changes`: position, base A C G T, channel."""
    return self.changes

  def to_pandas(self) -> "pandas.DataFrame":
    """Makes a table of one row for each substitution; `pos` is 1-based.

    Raises:
      ConfigError: pandas is not installed.
    """
    return optional("pandas", "analysis").DataFrame(list(self.rows()), columns=self.columns())

  def to_xarray(self) -> "xarray.Dataset":
    """Makes a data set of expression (position, base, track), density and membership.

    The latter two are (position, base); positions are 0-based.

    Raises:
      ConfigError: xarray is not installed.
    """
    axes = ("position", "base")
    parts = change_variables(self.changes, axes)
    if self.spread is not None:
      parts |= change_variables(self.spread, axes, "_spread")
    return optional("xarray", "analysis").Dataset(
      parts,
      coords={
        "position": ("position", np.arange(self.start, self.end), {"units": "bp, 0-based"}),
        "base": list(BASES),
        "reference": ("position", list(decode(self.reference))),
        "track": list(self.table.names),
        "strand": ("track", [track.strand for track in self.table.expression]),
      },
      attrs={"contig": self.contig, "target": self.target.name},
    )


def as_target(target: Any, genome: AnnotatedGenome, region: Interval) -> Target:
  """Resolves the target that a user means: a gene by name, an interval, or the region itself.

  Raises:
    ConfigError: there is no such gene or interval on the region's contig.
  """
  contig = genome[region.contig]
  if isinstance(target, str) and ":" not in target:
    placed = genome.gene(target)
    if placed.contig != contig.name:
      raise ConfigError(f"gene {target} lies on {placed.contig}, the region on {contig.name}")
    return Target(target, placed.bases(contig.length_bp), placed.strand)
  if target is None:
    return Target("the region", np.arange(region.start, region.end))
  located = locate(contig if len(target) == 2 else genome, target, None)
  start, end = located.interval or (0, 0)
  if located.contig != contig.name or not 0 <= start < end <= contig.length_bp:
    raise ConfigError(f"target {target!r} is not on {contig.name}, which has {contig.length_bp} bp")
  return Target(str(Interval(contig.name, start, end)), np.arange(start, end))


def mutagenesis(
  predictor: Predictor,
  contig: Contig,
  start: int,
  end: int,
  target: Target,
  *,
  reverse_complement: bool = False,
) -> Mutagenesis:
  """Replaces every base of a region by the three others, one at a time.

  Everything is predicted in one window, centred on the region; the reference once.

  Args:
    predictor: model to ask.
    contig: contig of the region; one of unknown topology counts as linear.
    start: first base of the region, 0-based; it may pass the origin of a circular contig.
    end: base after the region's last one.
    target: bases on which the effect is measured.
    reverse_complement: whether to average both strands: twice the work.

  Raises:
    ConfigError: the region is outside the contig or longer than a window, or no base of the target
      is in the window.
  """
  view, rows = place(predictor.window_bp, contig, start, end, target)
  codes, length, first = contig.codes, contig.length_bp, view.first
  reference = codes.take(np.arange(start, end), mode="wrap")
  changes = np.full((end - start, 4, len(predictor.table.names) + 2), np.nan, np.float32)

  def windows() -> Iterator[tuple[tuple[int, int] | None, UInt8[np.ndarray, " W"]]]:
    yield None, predictor.cut(codes, first, view.circular)
    for offset, code in enumerate(reference.tolist()):
      for base in range(4):
        if code not in (base, UNKNOWN):
          edit = Edit(start + offset, 1, np.array([base], np.uint8))
          yield (offset, base), alternative(codes, view, edit)

  spread = changes.copy() if predictor.has_spread else None
  baselines: list[Effect] = []
  for key, outputs in predictor.run_members(windows(), reverse_complement):
    values = [mean_over(channels(o, predictor.table, predictor.window_bp), rows) for o in outputs]
    if key is None:
      baselines = values
      for array in (changes, spread):
        if array is not None:
          array[np.arange(end - start)[reference < 4], reference[reference < 4]] = 0.0
      continue
    each = [value - baseline for value, baseline in zip(values, baselines, strict=True)]
    changes[key] = mean_of(each)
    if spread is not None:
      spread[key] = spread_of(each)
  return Mutagenesis(
    contig=contig.name,
    length_bp=length,
    start=start,
    reference=reference,
    changes=changes,
    baseline=mean_of(baselines),
    target=target,
    target_share=len(rows) / len(target.positions),
    window=(first, first + predictor.window_bp),
    table=predictor.table,
    spread=spread,
  )


def place(
  window_bp: int, contig: Contig, start: int, end: int, target: Target
) -> tuple[View, Int[np.ndarray, " m"]]:
  """Centres a window on a region, and finds the target's bases in it.

  Raises:
    ConfigError: the region is outside the contig or longer than a window, or no base of the target
      is in the window.
  """
  length, circular = contig.length_bp, bool(contig.circular)
  fits = end - start <= length if circular else 0 <= start < end <= length
  if not (start < end and fits):
    raise ConfigError(f"region {start + 1}-{end} is not on {contig.name}, which has {length} bp")
  first = window_start(length, start, end, window_bp, circular)
  view = View.around(first, window_bp, length, circular, (start + end) // 2)
  rows = view.where(target.positions)
  if not len(rows):
    raise ConfigError(
      f"{target.name} is not in the window of {window_bp} bp about "
      f"{contig.name}:{start + 1}-{end}; choose a region closer to it"
    )
  return view, rows
