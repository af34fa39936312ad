"""Intervals on contigs, and neighbouring genes. 0-based and half-open; 1-based in text."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from alphaecoli.errors import ConfigError

StartEnd = tuple[int, int]  # first base, and the base after the last


class Interval(NamedTuple):
  """An interval of a contig, 0-based and half-open."""

  contig: str
  start: int
  end: int

  @classmethod
  def parse(cls, text: str) -> "Interval":
    """Reads `contig:start-end`, 1-based and inclusive as in samtools; commas are ignored.

    Raises:
      ConfigError: not of that form.
    """
    contig, colon, positions = text.rpartition(":")
    first, dash, last = positions.replace(",", "").partition("-")
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
  """Pairs of neighbouring genes, one entry a pair.

  Attributes:
    left: index of the gene that comes first.
    right: index of the gene that follows.
    low: first base between the two midpoints.
    high: base after the last one between them, at least low + 1.
    distance_bp: distance from the end of the left gene to the start of the right one, negative
      where they overlap.
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
  circular_bp: int | None = None,
) -> Neighbours:
  """Finds genes that follow one another among all genes and have the same strand, + or -.

  Args:
    first: first bases, ascending.
    last: bases after the last ones; beyond `circular_bp` where a gene passes the origin.
    strand: +1, -1, or 0 for unknown.
    circular_bp: length of a circular contig, on which the first gene follows the last one and
      `high` may pass the origin; None for a linear one.
  """
  n = len(first)
  if circular_bp is not None and n > 1:  # the first gene follows the last one, one length on
    first, last = (np.append(a, a[0] + circular_bp) for a in (first, last))
    strand = np.append(strand, strand[0])
  left = np.arange(max(len(first) - 1, 0))
  left = left[(strand[left] == strand[left + 1]) & (strand[left] != 0)]
  right = left + 1
  middle = (first + last) // 2
  low = np.minimum(middle[left], middle[right])
  high = np.maximum(np.maximum(middle[left], middle[right]), low + 1)
  distance = first[right] - last[left]
  return Neighbours(left, right % max(n, 1), low, high, distance)


def merge(intervals: Iterable[StartEnd], gap_bp: int = 0) -> list[StartEnd]:
  """Merges intervals that overlap, touch, or lie at most `gap_bp` apart; sorted by start."""
  merged: list[StartEnd] = []
  for start, end in sorted(intervals):
    if merged and start <= merged[-1][1] + gap_bp:
      merged[-1] = merged[-1][0], max(end, merged[-1][1])
    else:
      merged.append((start, end))
  return merged


def regions_of(
  inside: Bool[np.ndarray, "L"], gap_bp: int = 0, circular: bool = False
) -> list[StartEnd]:
  """Returns the regions that a mask marks, sorted by start.

  Args:
    inside: mask over the bases of a contig.
    gap_bp: longest gap between two regions that is closed.
    circular: whether the last region may reach past the origin.
  """
  padded = np.concatenate([[False], inside, [False]])
  edges = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
  found = merge(zip(edges[::2], edges[1::2], strict=True), gap_bp)
  if circular and len(found) > 1 and found[0][0] + len(inside) - found[-1][1] <= gap_bp:
    found = [*found[1:-1], (found[-1][0], found[0][1] + len(inside))]
  return found


def split_at_origin(intervals: Iterable[StartEnd], length_bp: int) -> list[StartEnd]:
  """Moves intervals to 0..length_bp, splitting those that pass the origin in two."""
  parts = []
  for start, end in intervals:
    offset = start // length_bp * length_bp  # a fragment may lie beyond the origin as a whole
    parts.append((start - offset, min(end - offset, length_bp)))
    if end - offset > length_bp:
      parts.append((0, end - offset - length_bp))
  return parts


def covering_interval(intervals: Iterable[StartEnd], length_bp: int) -> StartEnd:
  """Returns the shortest interval of a circular contig that covers all intervals (at least one)."""
  # The complement of the widest gap; of equal gaps the one over the origin, then the first.
  ordered = sorted(intervals)
  last = max(b for _, b in ordered)
  reach = max(ordered[0][1], last - length_bp)  # of what passes the origin, too
  gaps = [(ordered[0][0] + length_bp - last, 0)]
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
