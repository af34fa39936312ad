"""What the trunk of the model knows about a stretch of sequence."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from alphaecoli.inference.extras import analysis
from alphaecoli.schema import BIN_BP, PAIR_BP

if TYPE_CHECKING:
  import pandas
  import xarray


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """Embeddings of one stretch, all from one window of the model.

  Attributes:
    one_bp: one row a base, from `start` on.
    bins: one row a bin of 128 bp, from `start` on.
    pair: one row and one column for each 2,048 bp, from `pair_start` on.
    start: first base, 0-based.
    pair_start: first base of the pair embedding, at or before `start`.
    contig: name of the contig; empty where there is none.
    window: first base of the model's window and the base after its last one. On a ring, positions
      below 0 or past the end count around the origin; elsewhere they stand for unknown bases.
  """

  one_bp: Float32[np.ndarray, "S C"]
  bins: Float32[np.ndarray, "N D"]
  pair: Float32[np.ndarray, "P P F"]
  start: int
  pair_start: int
  contig: str
  window: tuple[int, int]

  @property
  def end(self) -> int:
    """The base after the last."""
    return self.start + len(self.one_bp)

  def to_numpy(self) -> dict[str, np.ndarray]:
    """The arrays by name."""
    return {"one_bp": self.one_bp, "bins": self.bins, "pair": self.pair}

  def to_pandas(self, resolution: int = 1) -> "pandas.DataFrame":
    """One row a base (resolution 1) or bin (128), one column a feature.

    Raises:
      ConfigError: pandas is not installed.
      ValueError: another resolution; pairs have two axes: use `to_xarray`.
    """
    if resolution not in (1, BIN_BP):
      raise ValueError(f"resolution={resolution}; expected 1 or {BIN_BP}")
    values = self.one_bp if resolution == 1 else self.bins
    positions = self.start + resolution * np.arange(len(values))
    pandas = analysis("pandas")
    return pandas.DataFrame(values, index=pandas.Index(positions, name="position"))

  def to_xarray(self) -> "xarray.Dataset":
    """The three arrays with coordinates: first base of each row, 0-based.

    Raises:
      ConfigError: xarray is not installed.
    """
    step = {"position": 1, "bin": BIN_BP}
    lengths = {"position": len(self.one_bp), "bin": len(self.bins)}
    coords: dict[str, Any] = {
      name: (name, self.start + bp * np.arange(lengths[name]), {"units": "bp, 0-based"})
      for name, bp in step.items()
    }
    for name in ("pair_row", "pair_column"):
      coords[name] = (name, self.pair_start + PAIR_BP * np.arange(len(self.pair)))
    return analysis("xarray").Dataset(
      {
        "one_bp": (("position", "feature"), self.one_bp),
        "bins": (("bin", "bin_feature"), self.bins),
        "pair": (("pair_row", "pair_column", "pair_feature"), self.pair),
      },
      coords=coords,
      attrs={"contig": self.contig, "start": self.start, "end": self.end},
    )


def cropped(
  values: Mapping[str, np.ndarray], contig: str, start: int, end: int, first: int
) -> Embeddings:
  """The part of a window's embeddings that a stretch needs.

  Args:
    values: one_bp, bins and pair of the whole window.
    contig: name of the contig.
    start: first base, a multiple of 128 from the window's first.
    end: the base after the last.
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
