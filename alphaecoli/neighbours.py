"""Neighbouring genes on one strand: who stands beside whom, and the bases between them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


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
