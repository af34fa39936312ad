"""What is asked of a prediction, and the arrays that its windows fill."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.inference.prediction import Prediction, from_z
from alphaecoli.inference.tiling import Tile, n_bins
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.table import TrackTable


@dataclasses.dataclass(frozen=True)
class Request:
  """What to predict: a contig and how to read it.

  Attributes:
    codes: its bases, 0 to 4.
    circular: whether its end joins its start.
    interval: (start, end) within 0 to L to predict instead of all of it; widened to whole bins.
    contig: its name.
    one_window: the interval is the model's window itself: as long, anywhere, also across the
      origin of a ring or (over unknown bases) the ends of a linear contig.
  """

  codes: UInt8[np.ndarray, " L"]
  circular: bool = False
  interval: tuple[int, int] | None = None
  contig: str = ""
  one_window: bool = False


class Work:
  """The arrays of one contig, filled tile by tile."""

  def __init__(self, request: Request, start: int, end: int, n_tiles: int, n_tracks: int):
    self.request, self.start, self.end, self.tiles_left = request, start, end, n_tiles
    bins = n_bins(end - start)
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

  def finish(self, table: TrackTable, units: str) -> Prediction:
    """The prediction, once no tile is left."""
    return Prediction(
      **{**self.arrays, "gene_expression": from_z(self.arrays["gene_expression"], units, table)},
      table=table,
      units=units,
      start=self.start,
      circular=self.request.circular,
      contig=self.request.contig,
    )


def whole_bins(interval: tuple[int, int] | None, length_bp: int) -> tuple[int, int]:
  """An interval widened to whole bins, within the contig."""
  if interval is None:
    return 0, length_bp
  start, end = interval
  if not 0 <= start < end <= length_bp:
    raise ConfigError(
      f"interval {start}-{end} is not within the sequence: 0 <= start < end <= {length_bp}"
    )
  return start // BIN_BP * BIN_BP, min(n_bins(end) * BIN_BP, length_bp)
