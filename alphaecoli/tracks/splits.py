"""Regions of the chromosome for training, validation and test.

The chromosome is divided into blocks that are assigned to folds; all bases of a block belong to one
split (docs/data.md).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
BORDER = "border"


class Region(NamedTuple):
  """A half-open region of the chromosome: 0 <= start < L, start < end <= start + L."""

  start: int
  end: int

  @property
  def length_bp(self) -> int:
    """Returns the length of the region."""
    return self.end - self.start

  def offset(self, start: int, end: int, chromosome_bp: int) -> int | None:
    """Returns the offset of [start, end) in the region; None where a part of it lies outside."""
    offset = (start - self.start) % chromosome_bp
    return offset if offset + (end - start) <= self.length_bp else None


Regions = Mapping[str, tuple[Region, ...]]


def split_regions(
  length_bp: int, n_blocks: int, n_folds: int, fold: int, circular: bool = True
) -> dict[str, tuple[Region, ...]]:
  """Returns the regions of every split, neighbouring blocks merged, sorted by start.

  Args:
    length_bp: length L of the chromosome.
    n_blocks: number of blocks; block i reaches from round(i * L / n_blocks) to
      round((i + 1) * L / n_blocks).
    n_folds: number of folds, at least 3; block i belongs to fold i mod n_folds.
    fold: validation fold; the next one is the test fold.
    circular: whether the last and the first block are neighbours.
  """
  edges = [round(i * length_bp / n_blocks) for i in range(n_blocks + 1)]
  held_out = {fold % n_folds: VALIDATION, (fold + 1) % n_folds: TEST}
  runs: list[tuple[str, Region]] = []
  for i, (start, end) in enumerate(itertools.pairwise(edges)):
    if start == end:
      continue
    split = held_out.get(i % n_folds, TRAIN)
    if runs and runs[-1][0] == split:
      runs[-1] = split, Region(runs[-1][1].start, end)
    else:
      runs.append((split, Region(start, end)))
  if circular and len(runs) > 1 and runs[0][0] == runs[-1][0]:
    split, last = runs.pop()
    runs[0] = split, Region(last.start, length_bp + runs[0][1].end)
  return {name: tuple(sorted(region for s, region in runs if s == name)) for name in SPLITS}


def split_of(start: int, end: int, regions: Regions, length_bp: int) -> str:
  """Returns the split that holds every base of [start, end), or "border" where none does."""
  for name, of_split in regions.items():
    if any(region.offset(start, end, length_bp) is not None for region in of_split):
      return name
  return BORDER


def total_bp(regions: Sequence[Region]) -> int:
  """Returns the number of bases of all regions."""
  return sum(region.length_bp for region in regions)
