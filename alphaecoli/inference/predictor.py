"""From a checkpoint and a sequence to tracks, for any length, on any number of devices."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from alphaecoli import genome
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.forward import HEADS, Forward, load_forward
from alphaecoli.inference.prediction import Prediction, check_units, from_z
from alphaecoli.inference.tiling import (
  UNKNOWN_BASE,
  Tile,
  check_margin,
  default_margin,
  n_bins,
  plan_tiles,
  tile_codes,
)
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.table import TrackTable

# Bases in a batch, per device: more gains nothing on two CPU cores.
CPU_BATCH_BP, ACCELERATOR_BATCH_BP = 1 << 15, 1 << 19

# Called with the number of bases finished since the last call.
Progress = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Request:
  """What to predict: a contig and how to read it.

  Attributes:
    codes: its bases, 0 to 4.
    circular: whether its end joins its start.
    interval: (start, end) within 0 to L to predict instead of all of it; widened to whole bins.
  """

  codes: UInt8[np.ndarray, " L"]
  circular: bool = False
  interval: tuple[int, int] | None = None


class Predictor:
  """A trained model that reads sequences of any length.

  Attributes:
    table: names, transform and statistics of the tracks.
    window_bp: bases the model sees at once, as in training.
    margin_bp: bases on either side of a window's kept part.
    batch_windows: windows computed at once; the last batch of a call is filled with N.
    trained_heads: the others give NaN.
    about: where the model comes from, for the record.
  """

  def __init__(
    self,
    forward: Forward,
    table: TrackTable,
    *,
    window_bp: int,
    margin_bp: int | None = None,
    batch_windows: int = 1,
    trained_heads: Sequence[str] = HEADS,
    about: dict[str, Any] | None = None,
  ):
    """Wraps a forward pass.

    Raises:
      ConfigError: margin_bp or batch_windows is out of range.
    """
    self.table = table
    self.window_bp = window_bp
    self.margin_bp = default_margin(window_bp) if margin_bp is None else margin_bp
    self.batch_windows = batch_windows
    self.trained_heads = tuple(trained_heads)
    self.about = about or {}
    self._forward = forward
    check_margin(self.margin_bp, window_bp)
    if batch_windows < 1:
      raise ConfigError(f"batch_windows={batch_windows}; expected at least 1")

  def predict(
    self,
    sequence: str | bytes | np.ndarray,
    *,
    circular: bool = False,
    interval: tuple[int, int] | None = None,
    reverse_complement: bool = False,
    units: str = "log_tpm",
    progress: Progress | None = None,
  ) -> Prediction:
    """Predicts the tracks of one sequence.

    Args:
      sequence: letters in either case, IUPAC codes count as unknown; or an array of codes
        A C G T = 0 1 2 3, unknown 4. At least one base.
      circular: whether its end joins its start.
      interval: predict only (start, end), with all of the sequence as context; the values are
        those of the whole prediction. Widened to whole bins of 128 bp.
      reverse_complement: average the predictions of both strands: twice the work.
      units: of expression: log_tpm, tpm or z.
      progress: called with the number of bases finished since its last call.

    Raises:
      DataError: the sequence is empty or has letters that stand for no nucleotide.
      ConfigError: unknown units, or an interval outside the sequence.
    """
    request = Request(as_codes(sequence), circular, interval)
    results = self.predict_many(
      [request], reverse_complement=reverse_complement, units=units, progress=progress
    )
    return next(results)

  def predict_many(
    self,
    requests: Iterable[Request],
    *,
    reverse_complement: bool = False,
    units: str = "log_tpm",
    progress: Progress | None = None,
  ) -> Iterator[Prediction]:
    """Predicts contigs in order; windows of short contigs share a batch.

    Memory holds the contigs whose windows are in flight: two batches' worth.
    """
    check_units(units)
    in_flight: deque[tuple[dict[str, Any], list[tuple[_Work, Tile]]]] = deque()
    jobs = self._jobs(requests)
    while batch := list(itertools.islice(jobs, self.batch_windows)):
      windows = np.full((self.batch_windows, self.window_bp), UNKNOWN_BASE, np.uint8)
      for row, (work, tile) in enumerate(batch):
        windows[row] = tile_codes(work.request.codes, tile, self.window_bp, work.request.circular)
      # The device computes this batch while the one before is copied out below.
      in_flight.append((self._forward(windows, reverse_complement), batch))
      if len(in_flight) > 1:
        yield from self._collect(*in_flight.popleft(), units, progress)
    while in_flight:
      yield from self._collect(*in_flight.popleft(), units, progress)

  def _jobs(self, requests: Iterable[Request]) -> "Iterator[tuple[_Work, Tile]]":
    """The tiles of all contigs, one after the other."""
    for request in requests:
      length = len(request.codes)
      start, end = _whole_bins(request.interval, length)
      tiles = plan_tiles(
        length, window_bp=self.window_bp, margin_bp=self.margin_bp, circular=request.circular
      )
      tiles = [t for t in tiles if t.start < end and t.end > start]
      work = _Work(request, start, end, len(tiles), len(self.table.expression))
      for tile in tiles:
        yield work, tile

  def _collect(
    self,
    outputs: dict[str, Any],
    batch: "list[tuple[_Work, Tile]]",
    units: str,
    progress: Progress | None,
  ) -> Iterator[Prediction]:
    """Copies a batch's kept parts into the contigs' arrays; yields the contigs that are done."""
    host = {name: np.asarray(outputs[name], np.float32) for name in self.trained_heads}
    bases = 0
    for row, (work, tile) in enumerate(batch):
      bases += work.put(tile, {name: values[row] for name, values in host.items()})
    if progress is not None:
      progress(bases)
    for work in dict.fromkeys(work for work, _ in batch):
      if work.tiles_left == 0:
        expression = from_z(work.arrays["gene_expression"], units, self.table)
        yield Prediction(
          **{**work.arrays, "gene_expression": expression},
          table=self.table,
          units=units,
          start=work.start,
          circular=work.request.circular,
        )


class _Work:
  """The arrays of one contig, filled tile by tile."""

  def __init__(self, request: Request, start: int, end: int, n_tiles: int, n_tracks: int):
    self.request, self.start, self.end, self.tiles_left = request, start, end, n_tiles
    bins = n_bins(end) - start // BIN_BP
    shapes = {
      "gene_expression": (end - start, n_tracks),
      "gene_density": (bins, 1),
      "operon_membership": (end - start, 1),
    }
    self.arrays = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}

  def put(self, tile: Tile, outputs: dict[str, np.ndarray]) -> int:
    """Stores the kept part of a tile; returns its number of bases."""
    first, last = max(tile.start, self.start), min(tile.end, self.end)
    for name, values in outputs.items():
      bp = BIN_BP if name == "gene_density" else 1
      source = slice((first - tile.window_start) // bp, -(-(last - tile.window_start) // bp))
      target = slice((first - self.start) // bp, -(-(last - self.start) // bp))
      self.arrays[name][target] = values[source]
    self.tiles_left -= 1
    return last - first


def _whole_bins(interval: tuple[int, int] | None, length_bp: int) -> tuple[int, int]:
  """An interval widened to whole bins, within the contig."""
  if interval is None:
    return 0, length_bp
  start, end = interval
  if not 0 <= start < end <= length_bp:
    raise ConfigError(
      f"interval {start}-{end} is not within the sequence: 0 <= start < end <= {length_bp}"
    )
  return start // BIN_BP * BIN_BP, min(n_bins(end) * BIN_BP, length_bp)


def as_codes(sequence: str | bytes | np.ndarray) -> UInt8[np.ndarray, " L"]:
  """Letters or codes as codes.

  Raises:
    DataError: empty, letters that stand for no nucleotide, or codes outside 0 to 4.
  """
  if isinstance(sequence, str | bytes):
    codes = genome.encode(sequence)
  else:
    codes = np.asarray(sequence)
    if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
      raise DataError(
        f"sequence is an array of {codes.dtype} and shape {codes.shape}; expected one row of codes "
        "0 to 4 (A C G T = 0 1 2 3, unknown 4), or a string"
      )
    if codes.size and not 0 <= codes.min() <= codes.max() <= UNKNOWN_BASE:
      raise DataError(f"sequence has codes from {codes.min()} to {codes.max()}; expected 0 to 4")
    codes = codes.astype(np.uint8)
  if not codes.size:
    raise DataError("the sequence is empty; expected at least one base")
  return codes


def local_devices(device: str | jax.Device | Sequence[jax.Device] | None) -> list[jax.Device]:
  """The devices to predict on.

  Args:
    device: None for all of this process, a platform such as cpu or gpu, or devices.

  Raises:
    ConfigError: the platform has no device here.
  """
  if device is None:
    return list(jax.local_devices())
  if isinstance(device, str):
    try:
      return list(jax.local_devices(backend=device))
    except RuntimeError as error:
      have = jax.local_devices()[0].platform
      raise ConfigError(f"device={device!r} is not available here; JAX has {have}") from error
  return list(device) if isinstance(device, Sequence) else [device]


def default_batch(window_bp: int, devices: Sequence[jax.Device]) -> int:
  """Windows at once: enough bases to keep each device busy."""
  busy_bp = CPU_BATCH_BP if devices[0].platform == "cpu" else ACCELERATOR_BATCH_BP
  return max(busy_bp // window_bp, 1) * len(devices)


def load_predictor(
  checkpoint: str | Path,
  *,
  device: str | jax.Device | Sequence[jax.Device] | None = None,
  batch_windows: int | None = None,
  margin_bp: int | None = None,
) -> Predictor:
  """Loads a model for prediction.

  Args:
    checkpoint: one checkpoint, or a run's directory (its best checkpoint, else its last).
    device: None for all devices of this process, a platform such as cpu, or devices.
    batch_windows: windows at once, over all devices; by default what fills them. Rounded up to a
      multiple of the number of devices.
    margin_bp: bases dropped on either side of each window, a multiple of 128; a quarter of the
      window by default.

  Raises:
    DataError: there is no checkpoint, or it is broken.
    ConfigError: an option is out of range.
  """
  if batch_windows is not None and batch_windows < 1:
    raise ConfigError(f"batch_windows={batch_windows}; expected at least 1")
  devices = local_devices(device)
  loaded = load_forward(Path(checkpoint), devices)
  batch = batch_windows or default_batch(loaded.window_bp, devices)
  return Predictor(
    loaded.forward,
    loaded.table,
    window_bp=loaded.window_bp,
    margin_bp=margin_bp,
    batch_windows=-(-batch // len(devices)) * len(devices),
    trained_heads=loaded.trained_heads,
    about=loaded.about,
  )
