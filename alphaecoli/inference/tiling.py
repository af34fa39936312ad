"""Cutting a contig of any length into windows of the model's length, and what is kept of each.

The model sees windows of one length. They overlap, and of each only the part is kept that has at
least `margin_bp` of sequence on both sides, except at the true end of a linear contig. Windows and
kept parts start at multiples of 128 bp from the contig's start, so that bins fit together.

Only attention sees the whole window. A contig that is long enough is cut into stretches of several
windows: convolutions run once over a stretch, and the windows that overlap in it are those of
attention. Stretches overlap by the same margins.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.sequence import UNKNOWN
from alphaecoli.schema import BIN_BP, PAIR_BP

# A stretch is so many windows long, and no longer than a batch on an accelerator. With the widest
# margins it is shorter: attention runs on all of its overlapping windows at once.
STRETCH_WINDOWS, MOST_STRETCH_BP, MOST_OVERLAPPING = 4, 1 << 19, 32
T = TypeVar("T")


class Tile(NamedTuple):
  """One window or stretch and the part of its output that is kept, in bp from the contig's start.

  Attributes:
    window_start: first base of the window; below 0 or past the end it wraps or is padded.
    start: first base kept, a multiple of 128.
    end: base after the last one kept, a multiple of 128; the last tile's may pass the contig's end
      by less than a bin.
  """

  window_start: int
  start: int
  end: int


def default_margin(window_bp: int) -> int:
  """Returns a quarter of the window: half of it is kept, and each base is computed twice."""
  return window_bp // 4 // BIN_BP * BIN_BP


def check_margin(margin_bp: int, window_bp: int) -> None:
  """Checks that something is kept of each window.

  Raises:
    ConfigError: not a multiple of 128, negative, or half of the window or more.
  """
  largest = (window_bp // 2 - 1) // BIN_BP * BIN_BP
  if margin_bp % BIN_BP or not 0 <= margin_bp <= largest:
    raise ConfigError(
      f"margin_bp={margin_bp} is not a multiple of {BIN_BP} from 0 to {largest} (less than half of "
      f"the model's window of {window_bp} bp)"
    )


def n_bins(length_bp: int) -> int:
  """Counts the bins of 128 bp that a contig touches; the last one may be partial."""
  return -(-length_bp // BIN_BP)


def short_window(length_bp: int, window_bp: int) -> int:
  """Returns the length of the window for a linear contig: a shorter one where that holds it.

  Few lengths, each of which is a program to compile: 1,024, 2,048 times a power of 4, and the
  model's own.
  """
  if length_bp <= PAIR_BP // 2 and window_bp > PAIR_BP:
    return PAIR_BP // 2
  length = PAIR_BP
  while length < min(n_bins(length_bp) * BIN_BP, window_bp):
    length *= 4
  return min(length, window_bp)


def stretch_length(window_bp: int, margin_bp: int) -> int:
  """Returns the length of a stretch, or of a window where stretches would be too long.

  Windows fill it: what is kept of each follows on what is kept of the one before.
  """
  if STRETCH_WINDOWS * window_bp > MOST_STRETCH_BP:
    return window_bp
  core_bp = window_bp - 2 * margin_bp
  overlapping = min((STRETCH_WINDOWS * window_bp - 2 * margin_bp) // core_bp, MOST_OVERLAPPING)
  return overlapping * core_bp + 2 * margin_bp


def tile_length(length_bp: int, window_bp: int, margin_bp: int) -> int:
  """Returns the length of a contig's tiles: stretches, if it has at least one, else windows."""
  stretch_bp = stretch_length(window_bp, margin_bp)
  return stretch_bp if length_bp >= stretch_bp else window_bp


def plan_tiles(length_bp: int, *, window_bp: int, margin_bp: int, circular: bool) -> list[Tile]:
  """Covers a contig once.

  On a circular contig every base kept has `margin_bp` of real sequence on both sides, and a contig
  shorter than the window is repeated. On a linear contig the outermost windows lie against its
  ends, since that is what the model saw in training, rather than hang over them; at most 127 bp are
  padded, to complete the last bin. A linear contig shorter than the window sits in its middle; what
  is on both sides is up to the caller.

  Args:
    length_bp: length of the contig, at least 1.
    window_bp: length of the windows, or stretches.
    margin_bp: bases dropped at either end of a window, a multiple of 128 below half of the window.
    circular: whether the contig's end joins its start.

  Returns:
    Tiles in order; their kept parts follow one another from 0 to the end of the last bin.
  """
  padded_bp = n_bins(length_bp) * BIN_BP
  core_bp = window_bp - 2 * margin_bp
  if circular:
    starts = range(0, padded_bp, core_bp)
    return [Tile(s - margin_bp, s, min(s + core_bp, padded_bp)) for s in starts]
  if padded_bp <= window_bp:
    return [Tile(-((window_bp - padded_bp) // 2 // BIN_BP * BIN_BP), 0, padded_bp)]
  tiles: list[Tile] = []
  start, last = 0, padded_bp - window_bp
  for k in range(-(-last // core_bp) + 1):
    window_start = min(k * core_bp, last)
    end = padded_bp if window_start == last else window_start + window_bp - margin_bp
    tiles.append(Tile(window_start, start, end))
    start = end
  return tiles


def window_start(length_bp: int, start: int, end: int, window_bp: int, circular: bool) -> int:
  """Computes the first base of a window centred on an interval: a multiple of 128.

  On a linear contig the window lies against an end rather than hang over it, as in training; a
  contig shorter than the window lies in its middle.

  Raises:
    ConfigError: the interval is longer than a window.
  """
  if end - start > window_bp:
    raise ConfigError(
      f"interval {start}-{end} has {end - start} bp, more than the model's window of {window_bp}; "
      "take shorter ones"
    )
  centred = ((start + end - window_bp) // 2 + BIN_BP // 2) // BIN_BP * BIN_BP
  padded_bp = n_bins(length_bp) * BIN_BP
  if not circular and padded_bp <= window_bp:
    return -((window_bp - padded_bp) // 2 // BIN_BP * BIN_BP)
  # A window must hold all of the interval, which may be as long as the window.
  centred = min(max(centred, -(-(end - window_bp) // BIN_BP) * BIN_BP), start // BIN_BP * BIN_BP)
  return centred if circular else min(max(centred, 0), padded_bp - window_bp)


def tile_codes(
  codes: UInt8[np.ndarray, " L"], tile: Tile, window_bp: int, circular: bool
) -> UInt8[np.ndarray, " S"]:
  """Cuts the bases of a tile's window: wrapped on a circular contig, else N past the ends."""
  first, last = tile.window_start, tile.window_start + window_bp
  if circular:
    return codes.take(np.arange(first, last), mode="wrap")
  window = np.full(window_bp, UNKNOWN, np.uint8)
  inside = codes[max(first, 0) : max(last, 0)]
  offset = max(-first, 0)
  window[offset : offset + len(inside)] = inside
  return window


def grouped(items: Iterable[T], length: Callable[[T], int], most: int) -> Iterator[list[T]]:
  """Puts items together that follow one another, of so much length at most; a longer one alone."""
  group, total = list[T](), 0
  for item in items:
    if group and total + length(item) > most:
      yield group
      group, total = [], 0
    group.append(item)
    total += length(item)
  if group:
    yield group
