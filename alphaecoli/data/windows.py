"""Positions of windows: drawn at random for training, side by side for evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alphaecoli.errors import ConfigError
from alphaecoli.schema import PAIR_BP
from alphaecoli.tracks.splits import Region

_TWO_64 = 1 << 64


class Draw(NamedTuple):
  """One training window."""

  start: int
  reverse: bool


class Tile(NamedTuple):
  """One evaluation window; bases before `first_new_bp` (counted in the window) are repeated."""

  start: int
  first_new_bp: int


def check_training_regions(regions: Sequence[Region], window_bp: int) -> None:
  """Checks that one region at least holds a window; shorter ones are skipped in training.

  Raises:
    ConfigError: none does; says which window would fit.
  """
  if not any(region.length_bp >= window_bp for region in regions):
    _too_long(window_bp, "any training region", max((r.length_bp for r in regions), default=0))


def check_evaluation_regions(regions: Sequence[Region], window_bp: int) -> None:
  """Checks that every region holds a window, because every base counts.

  Raises:
    ConfigError: one does not, or there are none; says which window would fit.
  """
  shortest = min((r.length_bp for r in regions), default=0)
  if shortest < window_bp:
    _too_long(window_bp, "the shortest region of the split", shortest)


def _too_long(window_bp: int, what: str, region_bp: int) -> None:
  """Raises ConfigError for a window longer than a region; says which would fit."""
  possible = region_bp // PAIR_BP * PAIR_BP
  do = f"at most {possible} fits" if possible else "use fewer data.n_blocks"
  raise ConfigError(f"data.window_bp={window_bp} is longer than {what} ({region_bp} bp); {do}")


def open_circle(
  regions: Sequence[Region], window_bp: int, length_bp: int, circular: bool
) -> tuple[Region, ...]:
  """Returns regions to draw windows from: a whole circle has windows over its origin, too."""
  if not circular or [region.length_bp for region in regions] != [length_bp]:
    return tuple(regions)
  return (Region(regions[0].start, regions[0].end + window_bp - 1),)


def count_starts(regions: Sequence[Region], window_bp: int) -> int:
  """Counts the windows that lie within the regions."""
  return sum(max(region.length_bp - window_bp + 1, 0) for region in regions)


def nth_start(index: int, regions: Sequence[Region], window_bp: int, length_bp: int) -> int:
  """Returns the start of window `index` of all that lie within the regions, in order.

  Raises:
    IndexError: fewer windows lie within the regions.
  """
  for region in regions:
    starts = max(region.length_bp - window_bp + 1, 0)
    if index < starts:
      return (region.start + index) % length_bp
    index -= starts
  raise IndexError("fewer windows lie within the regions")


def draw_window(
  seed: int,
  index: int,
  regions: Sequence[Region],
  window_bp: int,
  length_bp: int,
  reverse_complement: float,
) -> Draw:
  """Draws training window `index` of the endless stream of a seed.

  The start is uniform over all windows within the regions. A pure function of its arguments: the
  counter of a Philox generator is the index (Salmon et al. 2011, doi:10.1145/2063384.2063405), and
  its raw words are used, which no version of numpy changes.

  Args:
    seed: seed of the stream, at least 0.
    index: index of the window, at least 0.
    regions: regions of the split; those shorter than a window are skipped.
    window_bp: length of a window.
    length_bp: length of the chromosome.
    reverse_complement: probability of reading the other strand.
  """
  # Integer arithmetic: a float would keep 53 of the 64 random bits.
  bits = np.random.Philox(key=seed, counter=[0, index, 0, 0]).random_raw(2)
  nth = int(bits[0]) * count_starts(regions, window_bp) // _TWO_64
  start = nth_start(nth, regions, window_bp, length_bp)
  return Draw(start, int(bits[1]) < int(reverse_complement * _TWO_64))


def draw_source(seed: int, index: int, shares: Sequence[float]) -> int:
  """Draws the contig of training window `index`; pure, and independent of `draw_window`.

  Args:
    seed: seed of the stream.
    index: index of the window.
    shares: fraction of the windows of each contig; they sum to 1.
  """
  if len(shares) == 1:
    return 0
  # The first two random words decide start and strand (`draw_window`).
  bits = np.random.Philox(key=seed, counter=[0, index, 0, 0]).random_raw(3)
  at, reached = int(bits[2]), 0.0
  for source, share in enumerate(shares[:-1]):
    reached += share
    if at < int(reached * _TWO_64):
      return source
  return len(shares) - 1


def tile_windows(regions: Sequence[Region], window_bp: int, length_bp: int) -> list[Tile]:
  """Returns the windows that cover every base of the regions, in order.

  What remains of a region is covered by a last window that overlaps the one before it.

  Raises:
    ConfigError: a region is shorter than a window.
  """
  check_evaluation_regions(regions, window_bp)
  tiles = []
  for region in regions:
    for first_new in range(region.start, region.end, window_bp):
      start = min(first_new, region.end - window_bp)
      tiles.append(Tile(start % length_bp, first_new - start))
  return tiles
