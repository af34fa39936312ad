"""Windows put together again: targets and predictions of a whole split, each base once.

Arrays here run over the split's regions one after the other ("split positions"), so that memory is
that of the split and not of its windows: 8 bytes per base and track.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from alphaecoli.errors import UserError
from alphaecoli.schema import HEADS
from alphaecoli.tracks.store import TrackStore

Arrays = dict[str, Float32[np.ndarray, "n T"]]


@dataclasses.dataclass(frozen=True)
class Layout:
  """The place of a split's regions in its arrays.

  Attributes:
    regions: half-open (start, end) intervals, 0 <= start < length_bp, end <= start + length_bp; of
      several contigs those of one after the other.
    length_bp: length of the chromosome; of several contigs the sum.
    contigs: layouts of several contigs; empty where there is one.
  """

  regions: tuple[tuple[int, int], ...]
  length_bp: int
  contigs: tuple["Layout", ...] = ()

  @classmethod
  def of_store(cls, store: TrackStore, split: str) -> "Layout":
    """Lays out a split of all contigs of a store, in their order."""
    return cls.joined([cls.of_contig(own, split) for own in store.replicons])

  @classmethod
  def of_contig(cls, store: TrackStore, split: str) -> "Layout":
    """Lays out a split of a store's own contig."""
    return cls(tuple((int(a), int(b)) for a, b in store.regions(split)), store.length_bp)

  @classmethod
  def joined(cls, contigs: Sequence["Layout"]) -> "Layout":
    """Puts the layouts of contigs one after the other."""
    if len(contigs) == 1:
      return contigs[0]
    regions = tuple(region for contig in contigs for region in contig.regions)
    return cls(regions, sum(contig.length_bp for contig in contigs), tuple(contigs))

  @property
  def parts(self) -> tuple["Layout", ...]:
    """Returns the layout of each contig."""
    return self.contigs or (self,)

  @property
  def n_bases(self) -> int:
    """Returns the number of bases in all regions."""
    return sum(end - start for start, end in self.regions)

  @property
  def places(self) -> list[tuple[int, int]]:
    """Returns first and last boundary of each region in the arrays, 0-based and half-open."""
    ends = np.cumsum([end - start for start, end in self.regions], dtype=np.int64).tolist()
    return list(zip([0, *ends], ends, strict=False))

  def positions(self) -> Int64[np.ndarray, "n"]:
    """Returns the position on the chromosome of every split position.

    Positions on several contigs go on where those of the one before end.
    """
    if self.contigs:
      before = itertools.accumulate((c.length_bp for c in self.contigs), initial=0)
      found = [c.positions() + n for c, n in zip(self.contigs, before, strict=False)]
      return np.concatenate(found)
    parts = [np.arange(start, end) % self.length_bp for start, end in self.regions]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)

  def locate(self, start: int, end: int) -> slice | None:
    """Returns the split positions of [start, end), None unless one region holds all of it.

    Of one contig: positions on several are ambiguous.
    """
    first = 0
    for region_start, region_end in self.regions:
      offset = (start - region_start) % self.length_bp
      if offset + (end - start) <= region_end - region_start:
        return slice(first + offset, first + offset + end - start)
      first += region_end - region_start
    return None


def split_sequence(layout: Layout, store: TrackStore) -> UInt8[np.ndarray, " n"]:
  """Returns the bases of a split, those of all contigs of a store."""
  each = zip(layout.parts, store.replicons, strict=True)
  return np.concatenate([own.sequence[part.positions()] for part, own in each])


class Assembly:
  """Collects batches of evaluation windows.

  `targets[head]` is NaN where unknown, `predictions[head]` (raw outputs) where no window has
  passed; rows are split positions. Density stands at the first base of its bin. `parts` are the
  assemblies of the contigs, where there are several.
  """

  def __init__(self, layout: Layout, n_tracks: int):
    self.layout = layout
    self._contigs: tuple[Assembly, ...] = ()
    shapes = {h.name: (layout.n_bases, h.channels or n_tracks) for h in HEADS.values()}
    self.targets: Arrays = {h: np.full(s, np.nan, np.float32) for h, s in shapes.items()}
    self.predictions: Arrays = {h: np.full(s, np.nan, np.float32) for h, s in shapes.items()}
    self.heads: set[str] = set()  # that the model gave outputs for

  @classmethod
  def joined(cls, contigs: Sequence["Assembly"]) -> "Assembly":
    """Puts the assemblies of contigs one after the other."""
    if len(contigs) == 1:
      return contigs[0]
    whole = cls(Layout((), 0), contigs[0].targets["gene_expression"].shape[1])
    whole.layout = Layout.joined([contig.layout for contig in contigs])
    whole.heads = {head for contig in contigs for head in contig.heads}
    whole.targets = {h: np.concatenate([c.targets[h] for c in contigs]) for h in whole.targets}
    whole.predictions = {
      h: np.concatenate([c.predictions[h] for c in contigs]) for h in whole.predictions
    }
    whole._contigs = tuple(contigs)
    return whole

  @property
  def parts(self) -> tuple["Assembly", ...]:
    """Returns the assembly of each contig."""
    return self._contigs or (self,)

  def add(self, batch: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
    """Enters one batch: rows of `batch` and `outputs` agree; rows without known values are padding.

    Raises:
      UserError: a prediction is NaN or infinite.
      ValueError: a window leaves the split, or a value is known twice.
    """
    heads = [head for head in HEADS if head in outputs]
    self.heads.update(heads)
    for row, start in enumerate(batch["start"]):
      if not any(batch[f"{head}_known"][row].any() for head in HEADS):
        continue
      length = batch["sequence"].shape[1]
      found = self.layout.locate(int(start), int(start) + length)
      if found is None:
        raise ValueError(f"window {start}..{start + length} is not within a region of the split")
      for head in heads:
        rows = slice(found.start, found.stop, HEADS[head].resolution_bp)
        mask = batch[f"{head}_known"][row]
        value = np.asarray(outputs[head][row], np.float32)
        if not np.isfinite(value).all():
          raise UserError(
            f"{head}: {int((~np.isfinite(value)).sum())} predictions of the window at {start} are "
            "NaN or infinite; the parameters are not usable, evaluate an earlier checkpoint"
          )
        self._enter(head, rows, batch[head][row], mask, value)

  def _enter(
    self,
    head: str,
    rows: slice,
    target: Float32[np.ndarray, "s T"],
    mask: Bool[np.ndarray, "s T"],
    value: Float32[np.ndarray, "s T"],
  ) -> None:
    """Writes one window; where windows overlap, the one whose values are known counts."""
    targets, predictions = self.targets[head][rows], self.predictions[head][rows]
    if (mask & ~np.isnan(targets)).any():
      raise ValueError(f"{head}: a value is known in two windows")
    targets[mask] = target[mask]
    # Bases without a target are predicted too; bins of overlapping windows need not agree.
    kept = mask if HEADS[head].resolution_bp > 1 else mask | np.isnan(predictions)
    predictions[kept] = value[kept]

  def gather(self, contributes: bool = True) -> None:
    """Adds what the other processes of this run have predicted; every process ends with the whole.

    Args:
      contributes: whether this process's predictions count: False where another has the same.
    """
    for head in HEADS:
      for track in range(self.targets[head].shape[1]):  # one by one: memory of a column a process
        column = self._column(head, track)
        if not contributes:
          column[:] = np.nan
        self.targets[head][:, track] = self.predictions[head][:, track] = np.nan
        self._merge_column(head, track, np.asarray(multihost_utils.process_allgather(column)))

  def _column(self, head: str, track: int) -> Float32[np.ndarray, "2 n"]:
    """Returns target and prediction of one track."""
    return np.stack([self.targets[head][:, track], self.predictions[head][:, track]])

  def _merge_column(self, head: str, track: int, columns: Float32[np.ndarray, "p 2 n"]) -> None:
    """Merges (target, prediction) columns of others into one track of a head."""
    target, prediction = self.targets[head][:, track], self.predictions[head][:, track]
    for other_target, other_prediction in columns:
      mask = ~np.isnan(other_target)
      if (mask & ~np.isnan(target)).any():
        raise ValueError(f"{head}: a value is known in the windows of two processes")
      target[mask] = other_target[mask]
      mask = mask | np.isnan(prediction)
      prediction[mask] = other_prediction[mask]


def local_rows(output: Any, process_index: int, rows: int) -> Shaped[np.ndarray, "b ..."]:
  """Takes the rows of one process from an output, be it global over all processes or local.

  The rows of a global output are those on this process's devices, in their order in the array:
  where `put_batch` has put the process's windows.

  Raises:
    ValueError: the devices of this process hold parts of windows, or other windows.
  """
  if not isinstance(output, jax.Array) or output.is_fully_addressable:
    output = np.asarray(output)
    if output.shape[0] == rows:
      return output
    return output[process_index * rows : (process_index + 1) * rows]
  shards = {shard.index[0].start or 0: shard.data for shard in output.addressable_shards}
  local = np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])
  if local.shape != (rows, *output.shape[1:]):
    raise ValueError(
      f"devices of this process hold {local.shape}; expected {rows} of {output.shape}"
    )
  return local
