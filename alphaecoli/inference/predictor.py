"""From a checkpoint and a sequence to tracks, for any length, on any number of devices."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.gene_models import GeneModels
from alphaecoli.inference.arguments import locate
from alphaecoli.inference.compiled import Forward, Key, batch_rows, gradients, run_batched
from alphaecoli.inference.prediction import (
  TRACK_HEADS,
  Embeddings,
  PendingPrediction,
  Prediction,
  Request,
  check_units,
  whole_bins,
)
from alphaecoli.inference.tiling import (
  Tile,
  check_margin,
  default_margin,
  n_bins,
  plan_tiles,
  short_window,
  tile_codes,
  tile_length,
  window_start,
)
from alphaecoli.schema import BIN_BP, PAIR_BP
from alphaecoli.tracks.track_table import TrackTable

# Called with the number of bases finished since the last call.
Progress = Callable[[int], None]
CHECKPOINT_PATH = r"/checkpoints(/\d+)?/?$"  # of a run's checkpoint, after the run's folder


def short_names(checkpoints: Iterable[str]) -> tuple[str, ...]:
  """Returns short names of checkpoints: their runs' folders; numbers where two would be one."""
  names = [PurePath(re.sub(CHECKPOINT_PATH, "", path)).name for path in checkpoints]
  numbers = tuple(str(n + 1) for n in range(len(names)))
  return numbers if len(set(names)) < len(names) else tuple(names)


class ShareOf:
  """A progress for the members of an ensemble, each of which reports the bases that it predicts."""

  def __init__(self, progress: Progress):
    """Starts counting."""
    self.of_work = 1.0  # bases of a contig for one of a member's
    self._progress, self._done, self._said = progress, 0.0, 0

  def __call__(self, bases: int) -> None:
    """Counts bases of one member."""
    self._done += bases * self.of_work
    new = int(self._done + 1e-6) - self._said
    self._said += new
    self._progress(new)


class Predictor:
  """A trained model that reads sequences of any length.

  Attributes:
    table: names, transform and statistics of the tracks.
    window_bp: bases the model sees at once, as in training.
    margin_bp: bases on either side of a window's kept part.
    batch_windows: windows at once, or as many bases of stretches; the last batch is filled with N.
    trained_heads: the others give NaN.
    about: metadata of the model, its checkpoint among them.
    gene_models: weigh what is predicted against what sequence and genes say by themselves.
    members: the models of an ensemble; none where this is a single one.
  """

  members: tuple["Predictor", ...] = ()

  def __init__(
    self,
    forward: Forward,
    table: TrackTable,
    *,
    window_bp: int,
    margin_bp: int | None = None,
    batch_windows: int = 1,
    trained_heads: Sequence[str] = TRACK_HEADS,
    about: dict[str, Any] | None = None,
    gene_models: GeneModels | None = None,
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
    self.gene_models = gene_models or GeneModels()
    self._forward = forward
    check_margin(self.margin_bp, window_bp)
    if batch_windows < 1:
      raise ConfigError(f"batch_windows={batch_windows}; expected at least 1")

  @property
  def member_names(self) -> tuple[str, ...]:
    """Returns short names of an ensemble's members."""
    return short_names(member.about["checkpoint"] for member in self.members)

  @property
  def choice(self) -> dict[str, Any]:
    """Returns which members predict what, for metadata; empty for a single model."""
    return {}

  @property
  def has_spread(self) -> bool:
    """Returns whether predictions come with a spread over an ensemble's members."""
    return False

  def is_out_of_fold(self, codes: UInt8[np.ndarray, " L"]) -> bool:
    """Returns whether a contig is predicted out of fold, as ensembles do."""
    return False

  def predict(
    self,
    sequence: Any,
    interval: Any = None,
    *,
    circular: bool | None = None,
    one_window: bool = False,
    reverse_complement: bool = False,
    units: str = "log_tpm",
    progress: Progress | None = None,
  ) -> Prediction:
    """Predicts the tracks of one sequence, or of an interval of a genome.

    Args:
      sequence: letters in either case, IUPAC codes count as unknown; an array of codes
        A C G T = 0 1 2 3, unknown 4; a `Contig`; contigs by name or in a list; or the `Path` of a
        FASTA file. At least one base.
      interval: part to predict: (start, end) or (contig, start, end), 0-based and half-open, or
        "contig:first-last", 1-based and inclusive. All of the contig is context; the values are
        those of the whole prediction. Widened to whole bins of 128 bp.
      circular: whether the contig's end joins its start; None: as a `Contig` says, else no.
      one_window: whether the interval itself, `window_bp` long, is the model's only window. It may
        pass the origin of a circular contig.
      reverse_complement: whether to average the predictions of both strands: twice the work.
      units: units of expression: log_tpm, tpm or z.
      progress: callback with the number of bases finished since its last call.

    Raises:
      DataError: the sequence is empty or has letters that stand for no nucleotide.
      ConfigError: unknown units, or an interval outside the sequence.
    """
    codes, contig, circular, bounds = locate(sequence, interval, circular)
    (found,) = self.predict_many(
      [Request(codes, circular, bounds, contig, one_window)],
      reverse_complement=reverse_complement,
      units=units,
      progress=progress,
    )
    return found

  def predict_many(
    self,
    requests: Iterable[Request],
    *,
    reverse_complement: bool = False,
    units: str = "log_tpm",
    progress: Progress | None = None,
  ) -> Iterator[Prediction]:
    """Predicts contigs in order; windows of short contigs share a batch.

    Memory holds the contigs whose windows are in flight: two batches' worth; and while windows of
    another length wait for a batch of theirs, up to `MOST_WAITING` batches' worth.
    """
    check_units(units)
    order: deque[PendingPrediction] = deque()
    windows = self._windows(requests, order)
    for (pending, tile), outputs in self.run_windows(windows, reverse_complement):
      bases = pending.put(tile, outputs)
      if progress is not None:
        progress(bases)
      while order and order[0].tiles_left == 0:
        yield order.popleft().finish(self.table, units)

  def run_windows(
    self, windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]], reverse_complement: bool = False
  ) -> Iterator[tuple[Key, dict[str, np.ndarray]]]:
    """Runs the model on windows of its length, in batches that fill the devices.

    Args:
      windows: keys of windows, of any kind, with their bases; or of stretches of windows.
      reverse_complement: whether to average both strands.

    Yields:
      Each key with the outputs of its trained heads: z-scores, genes per bin, probabilities.
    """

    def run(batch: UInt8[np.ndarray, "B W"]) -> dict[str, Any]:
      if batch.shape[1] > self.window_bp:
        tower_bp = self.window_bp, self.margin_bp
        outputs = self._forward.stretches(batch, reverse_complement, tower_bp)
      else:
        outputs = self._forward(batch, reverse_complement)
      return {name: outputs[name] for name in self.trained_heads}

    return self._batched(windows, run)

  def run_members(
    self, windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]], reverse_complement: bool = False
  ) -> Iterator[tuple[Key, list[dict[str, np.ndarray]]]]:
    """Runs each member of an ensemble, or a single model, as `run_windows` does.

    Yields:
      Each key with the outputs of every member; z-scores are by this predictor's table.
    """
    for key, outputs in self.run_windows(windows, reverse_complement):
      yield key, [outputs]

  def gradients(
    self,
    bases: Float32[np.ndarray, "n W 4"],
    weights: Mapping[str, Float32[np.ndarray, "n _R _T"]],
    reverse_complement: bool = False,
  ) -> Float32[np.ndarray, "n W 4"]:
    """Differentiates weighted sums of the outputs by one-hot bases, window by window.

    Args:
      bases: windows; a column for each of A C G T, zeros where the base is unknown.
      weights: weights of the outputs of some trained heads: z-scores, genes per bin, probabilities.
      reverse_complement: whether the outputs are averages over both strands.
    """
    return gradients(self._forward, self.batch_windows, bases, weights, reverse_complement)

  def embed(
    self, sequence: Any, interval: Any = None, *, circular: bool | None = None
  ) -> Embeddings:
    """Computes the trunk's embeddings of an interval, in one window that is centred on it.

    Args:
      sequence: sequence, as for `predict`.
      interval: part to embed, as for `predict`, at most `window_bp` long; by default the whole
        sequence. Widened to whole bins of 128 bp, and to whole pairs of 2,048 bp of the window.
      circular: whether the contig's end joins its start, as for `predict`.

    Raises:
      DataError: not a sequence.
      ConfigError: the interval is outside the sequence or longer than a window.
    """
    codes, contig, circular, bounds = locate(sequence, interval, circular)
    return next(self.embed_many([Request(codes, circular, bounds, contig)]))

  def embed_many(self, requests: Iterable[Request]) -> Iterator[Embeddings]:
    """Embeds intervals in order, in batches that fill the devices."""

    def windows() -> Iterator[tuple[tuple[Request, int, int, int], UInt8[np.ndarray, " W"]]]:
      for request in requests:
        start, end = whole_bins(request.interval, len(request.codes))
        first = window_start(len(request.codes), start, end, self.window_bp, request.circular)
        yield (request, start, end, first), self.cut(request.codes, first, request.circular)

    for (request, start, end, first), values in self._batched(windows(), self._forward.embed):
      yield _cropped(values, request.contig, start, end, first)

  def cut(
    self, codes: UInt8[np.ndarray, " L"], start: int, circular: bool
  ) -> UInt8[np.ndarray, " W"]:
    """Cuts the bases of a window that starts anywhere: wrapped, or N past linear ends."""
    return tile_codes(codes, Tile(start, start, start + self.window_bp), self.window_bp, circular)

  def _batched(
    self,
    windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]],
    run: Callable[[UInt8[np.ndarray, "B W"]], dict[str, Any]],
  ) -> Iterator[tuple[Key, dict[str, np.ndarray]]]:
    """Runs `run_batched` on batches of as many bases as those of whole windows."""

    def rows_of(length: int) -> int:
      return batch_rows(length, self.batch_windows, self.window_bp, self._forward.n_devices)

    return run_batched(windows, run, rows_of)

  def _windows(
    self, requests: Iterable[Request], order: deque[PendingPrediction]
  ) -> Iterator[tuple[tuple[PendingPrediction, Tile], UInt8[np.ndarray, " W"]]]:
    """Yields the tiles of all contigs and their bases, and enters the contigs in `order`.

    A linear contig that a shorter window holds has that, and one shorter than its window is
    repeated: runs of N, which no window in training had, change what the model says of the rest.
    """
    for request in requests:
      start, end, tile_bp, tiles = self._tiles(request)
      pending = PendingPrediction(request, start, end, len(tiles), self.table, self.trained_heads)
      order.append(pending)
      repeated = request.circular or n_bins(len(request.codes)) * BIN_BP <= tile_bp
      for tile in tiles:
        yield (pending, tile), tile_codes(request.codes, tile, tile_bp, repeated)

  def _tiles(self, request: Request) -> tuple[int, int, int, list[Tile]]:
    """Plans a request: first base, base after the last; length of the tiles, and tiles."""
    length = len(request.codes)
    if request.one_window:
      start, end = request.interval or (0, length)
      if end - start != self.window_bp:
        raise ConfigError(
          f"interval {start}-{end} has {end - start} bp; as one window it must have the model's "
          f"{self.window_bp}"
        )
      return start, end, self.window_bp, [Tile(start, start, end)]
    start, end = whole_bins(request.interval, length)
    tile_bp = tile_length(length, self.window_bp, self.margin_bp)
    if tile_bp == self.window_bp and not request.circular:
      tile_bp = short_window(length, tile_bp)
    tiles = plan_tiles(
      length, window_bp=tile_bp, margin_bp=self.margin_bp, circular=request.circular
    )
    return start, end, tile_bp, [t for t in tiles if t.start < end and t.end > start]


def _cropped(
  values: Mapping[str, np.ndarray], contig: str, start: int, end: int, first: int
) -> Embeddings:
  """Crops a window's embeddings to an interval.

  Args:
    values: one_bp, bins and pair of the whole window.
    contig: name of the contig.
    start: first base, a multiple of 128 from the window's first.
    end: base after the last one.
    first: first base of the window.
  """
  low, high = start - first, end - first
  pairs = slice(low // PAIR_BP, -(-high // PAIR_BP))
  return Embeddings(
    one_bp=values["one_bp"][low:high],
    bins=values["bins"][low // BIN_BP : -(-high // BIN_BP)],
    pair=values["pair"][pairs, pairs],
    start=start,
    pair_start=first + pairs.start * PAIR_BP,
    contig=contig,
    window=(first, first + len(values["one_bp"])),
  )
