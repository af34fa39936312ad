"""Regions of the chromosome for training, validation and test.

The chromosome is divided into blocks that are assigned to folds; all bases of a block belong to one
split (docs/data.md).
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from alphaecoli.schema import DATA_BEFORE

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
BORDER = "border"
# What a run had to do with a base: learnt from it; held it out, perhaps to choose a checkpoint by;
# neither.
SEEN, HELD_OUT, UNTOUCHED = range(3)


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
  length_bp: int,
  n_blocks: int,
  n_folds: int,
  fold: int,
  circular: bool = True,
  block_offset: float = 0.0,
) -> dict[str, tuple[Region, ...]]:
  """Returns the regions of every split, neighbouring blocks merged, sorted by start.

  Args:
    length_bp: length L of the chromosome.
    n_blocks: number of blocks; block i reaches from round(i * L / n_blocks) to
      round((i + 1) * L / n_blocks), from the first block's start on.
    n_folds: number of folds, at least 3; block i belongs to fold i mod n_folds.
    fold: validation fold; the next one is the test fold.
    circular: whether the last and the first block are neighbours.
    block_offset: start of the first block, in blocks after the first base; of a circle only.
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
  shift = round(block_offset * length_bp / n_blocks) if circular else 0
  starts = [(region.start + shift) % length_bp for _, region in runs]
  moved = [
    (split, Region(start, start + region.length_bp))
    for (split, region), start in zip(runs, starts, strict=True)
  ]
  return {name: tuple(sorted(region for s, region in moved if s == name)) for name in SPLITS}


def configured_regions(
  data: Mapping[str, Any], length_bp: int, circular: bool, fold: int | None = None
) -> dict[str, tuple[Region, ...]]:
  """Returns the regions by the data section of a configuration, perhaps of an earlier version.

  Args:
    data: its values.
    length_bp: length of the chromosome.
    circular: whether it is circular.
    fold: another validation fold than the configuration's.
  """
  data = {**DATA_BEFORE, **data}
  fold = data["fold"] if fold is None else fold
  layout = length_bp, data["n_blocks"], data["n_folds"], fold
  return split_regions(*layout, circular, data["block_offset"])


def split_of(start: int, end: int, regions: Regions, length_bp: int) -> str:
  """Returns the split that holds every base of [start, end), or "border" where none does."""
  for name, of_split in regions.items():
    for region in of_split:  # one that is the whole of a circle has no border
      if region.length_bp == length_bp or region.offset(start, end, length_bp) is not None:
        return name
  return BORDER


def total_bp(regions: Sequence[Region]) -> int:
  """Returns the number of bases of all regions."""
  return sum(region.length_bp for region in regions)


def mask_of(regions: Iterable[Sequence[int]], length_bp: int) -> Bool[np.ndarray, " L"]:
  """Marks the bases of regions (start, end), of which one may pass the origin."""
  mask = np.zeros(length_bp, bool)
  for start, end in regions:
    first = start % length_bp
    mask[first : first + end - start] = True
    mask[: max(first + end - start - length_bp, 0)] = True
  return mask


def hash_genome(codes: UInt8[np.ndarray, " L"]) -> str:
  """Returns the SHA-256 by which checkpoints know a chromosome."""
  return hashlib.sha256(codes.tobytes()).hexdigest()


def exposure(
  trained_on: Sequence[Mapping[str, Any]],
  data: Mapping[str, Any],
  codes: UInt8[np.ndarray, " L"],
) -> UInt8[np.ndarray, " L"]:
  """Tells what a run had to do with each base of a chromosome.

  Args:
    trained_on: entries of the run's checkpoints about what it, and what it began from, was trained
      on: genome_sha256 of each chromosome, and its regions as arcs.
    data: data section of its configuration.
    codes: bases of the chromosome, from the same first base on as in training.

  Returns:
    SEEN, HELD_OUT or UNTOUCHED. Bases that were not trained on are HELD_OUT, unless the
    configuration divides the chromosome as training did and tells which are the test split's.
  """
  length, digest = len(codes), hash_genome(codes)
  found = [mask_of(e["arcs"], length) for e in trained_on if e["genome_sha256"] == digest]
  if not found:
    return np.full(length, UNTOUCHED, np.uint8)
  result = np.full(length, HELD_OUT, np.uint8)
  regions = configured_regions(data, length, data.get("circular", True))
  own = mask_of(regions[TRAIN], length)
  if any(np.array_equal(own, mask) for mask in found):
    result[mask_of(regions[TEST], length)] = UNTOUCHED
  result[np.logical_or.reduce(found)] = SEEN
  return result
