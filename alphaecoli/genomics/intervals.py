"""Intervals on contigs, and neighbouring genes. 0-based and half-open; 1-based in text."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from alphaecoli.errors import ConfigError

StartEnd = tuple[int, int]  # first base, and the base after the last


class Interval(NamedTuple):
  """A stretch of a contig, 0-based and half-open."""

  contig: str
  start: int
  end: int

  @classmethod
  def parse(cls, text: str) -> "Interval":
    """Reads `contig:start-end`, 1-based and inclusive as in samtools; commas are ignored.

    Raises:
      ConfigError: not of that form.
    """
    contig, colon, span = text.rpartition(":")
    first, dash, last = span.replace(",", "").partition("-")
    if not (contig and colon and dash and first.isdecimal() and last.isdecimal()):
      raise ConfigError(
        f"interval {text!r}; expected contig:start-end, 1-based and inclusive: chr:101-300"
      )
    if not 1 <= int(first) <= int(last):
      raise ConfigError(f"interval {text!r}; expected 1 <= start <= end")
    return cls(contig, int(first) - 1, int(last))

  def __str__(self) -> str:
    return f"{self.contig}:{self.start + 1}-{self.end}"


class Neighbours(NamedTuple):
  """Pairs of neighbours, one entry a pair.

  Attributes:
    left: number of the gene that comes first.
    right: number of the gene that follows.
    low: first base between the two midpoints.
    high: base after the last one between them, at least low + 1.
    distance_bp: from the end of the left gene to the start of the right one, negative where they
      overlap.
  """

  left: Int[np.ndarray, "p"]
  right: Int[np.ndarray, "p"]
  low: Int[np.ndarray, "p"]
  high: Int[np.ndarray, "p"]
  distance_bp: Int[np.ndarray, "p"]


def neighbours(
  first: Int[np.ndarray, "g"],
  last: Int[np.ndarray, "g"],
  strand: Int[np.ndarray, "g"],
  ring_bp: int | None = None,
) -> Neighbours:
  """Genes that follow one another among all genes and have the same known strand.

  Args:
    first: first bases, ascending.
    last: the bases after the last; past `ring_bp` where a gene passes the origin.
    strand: +1, -1, or 0 for unknown.
    ring_bp: length of the ring, on which the first gene follows the last one; None: not a ring.
      There `high` may pass the origin.
  """
  if len(first) < 2:
    ring_bp = None
  lap = np.zeros(0 if ring_bp is None else 1, np.int64) + (ring_bp or 0)
  first, last, strand = (np.append(a, a[: len(lap)]) for a in (first, last, strand))
  first[len(first) - len(lap) :] += lap
  last[len(last) - len(lap) :] += lap
  left = np.arange(max(len(first) - 1, 0))
  left = left[(strand[left] == strand[left + 1]) & (strand[left] != 0)]
  right = left + 1
  middle = (first + last) // 2
  low = np.minimum(middle[left], middle[right])
  high = np.maximum(np.maximum(middle[left], middle[right]), low + 1)
  distance = first[right] - last[left]
  return Neighbours(left, right % max(len(first) - len(lap), 1), low, high, distance)


def merge(intervals: Iterable[StartEnd], gap_bp: int = 0) -> list[StartEnd]:
  """Joins intervals that overlap, touch, or lie at most `gap_bp` apart; sorted by start."""
  merged: list[StartEnd] = []
  for start, end in sorted(intervals):
    if merged and start <= merged[-1][1] + gap_bp:
      merged[-1] = merged[-1][0], max(end, merged[-1][1])
    else:
      merged.append((start, end))
  return merged


def split_at_origin(intervals: Iterable[StartEnd], length_bp: int) -> list[StartEnd]:
  """Moves intervals to 0..length_bp, cutting those that pass the origin in two."""
  pieces = []
  for start, end in intervals:
    lap = start // length_bp * length_bp  # a fragment may lie beyond the origin as a whole
    pieces.append((start - lap, min(end - lap, length_bp)))
    if end - lap > length_bp:
      pieces.append((0, end - lap - length_bp))
  return pieces


def covering_interval(intervals: Iterable[StartEnd], length_bp: int) -> StartEnd:
  """The shortest region of the circle that covers all intervals (at least one)."""
  ordered = sorted(intervals)
  reach = ordered[0][1]
  gaps = [(ordered[0][0] + length_bp - max(b for _, b in ordered), 0)]
  for i, (a, b) in enumerate(ordered[1:], 1):
    gaps.append((a - reach, i))
    reach = max(reach, b)
  _, first = max(gaps, key=lambda gap: (gap[0], -gap[1]))
  start = ordered[first][0]
  end = max(b for _, b in unwrap(ordered, start, length_bp))
  return start, min(end, start + length_bp)


def unwrap(intervals: Iterable[StartEnd], start: int, length_bp: int) -> list[StartEnd]:
  """Returns sorted intervals, those that begin before `start` one length further on."""
  return sorted((a, b) if a >= start else (a + length_bp, b + length_bp) for a, b in intervals)
