"""Changing a window's sequence, and comparing what is predicted before and after.

Reference and alternative are predicted in windows that begin at the same base, so that the edit
lies at the same place in both. What follows an insertion or a deletion has moved; it is compared
base by base in the reference's coordinates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.sequence import UNKNOWN, encode
from alphaecoli.genomics.vcf import Variant
from alphaecoli.schema import BIN_BP

UPSTREAM_BP = 200  # most promoters of E. coli lie closer to their gene's start


class Edit(NamedTuple):
  """What a variant does, without the bases that both alleles share at their ends.

  Attributes:
    start: where the removed bases begin, 0-based.
    removed_bp: bases of the reference that go.
    inserted: codes of the bases that come in their place.
  """

  start: int
  removed_bp: int
  inserted: UInt8[np.ndarray, " n"]

  @property
  def shift_bp(self) -> int:
    """Returns how far what follows moves to the right."""
    return len(self.inserted) - self.removed_bp


class View(NamedTuple):
  """A window on a contig and the part of it that stands for the contig, each base once.

  Attributes:
    first: first base of the window; on a circular contig it may lie below 0.
    window_bp: its length.
    length_bp: the contig's length.
    circular: whether the contig's end joins its start.
    low: first window position that counts.
    high: window position after the last that counts.
  """

  first: int
  window_bp: int
  length_bp: int
  circular: bool
  low: int
  high: int

  @classmethod
  def around(
    cls, first: int, window_bp: int, length_bp: int, circular: bool, centre: int
  ) -> "View":
    """Counts each of the contig's bases once; if circular and short, those around a base."""
    if circular:
      once_bp = min(length_bp, window_bp)
      low = min(max(centre - first - once_bp // 2, 0), window_bp - once_bp)
      return cls(first, window_bp, length_bp, circular, low, low + once_bp)
    low, high = max(-first, 0), min(length_bp - first, window_bp)
    return cls(first, window_bp, length_bp, circular, low, high)

  def where(self, positions: np.ndarray) -> np.ndarray:
    """Converts to window positions those of the contig's positions that are in view."""
    at = np.asarray(positions) - self.first
    if self.circular:
      at = self.low + (at - self.low) % self.length_bp
    return at[(at >= self.low) & (at < self.high)]


def trimmed(variant: Variant) -> Edit:
  """Reduces a variant to an edit: bases that both alleles end with go first, as in VCF."""
  ref, alt = variant.ref.upper(), variant.alt.upper()
  shorter = min(len(ref), len(alt))
  last = next((i for i in range(shorter) if ref[-1 - i] != alt[-1 - i]), shorter)
  ref, alt = ref[: len(ref) - last], alt[: len(alt) - last]
  shorter = min(len(ref), len(alt))
  first = next((i for i in range(shorter) if ref[i] != alt[i]), shorter)
  return Edit(variant.start + first, len(ref) - first, encode(alt[first:]))


def alternative(codes: UInt8[np.ndarray, " L"], view: View, edit: Edit) -> UInt8[np.ndarray, " W"]:
  """Cuts the edited contig's bases in a window that begins where the reference's does.

  A circular contig is wrapped after the edit; on a linear one N lies past the ends.
  """
  offsets = np.arange(view.window_bp) + view.first - edit.start  # from the edit on
  if view.circular:
    offsets = offsets % (view.length_bp + edit.shift_bp)
  # Where each base comes from: those after the edit have moved by its shift.
  source = edit.start + np.where(offsets < 0, offsets, offsets - edit.shift_bp)
  if view.circular:
    window = codes[source % view.length_bp]
  else:
    inside = (source >= 0) & (source < view.length_bp)
    window = np.where(inside, codes[np.where(inside, source, 0)], UNKNOWN).astype(np.uint8)
  new = (offsets >= 0) & (offsets < len(edit.inserted))
  window[new] = edit.inserted[offsets[new]]
  return window


def realigned(
  values: Float32[np.ndarray, "W C"], view: View, edit: Edit
) -> Float32[np.ndarray, "W C"]:
  """Realigns what was predicted for the alternative to the reference's coordinates.

  Replaced bases are compared one by one. Inserted bases beyond those count into the base before
  them, which gets the mean; deleted bases, and those that the window lost at its end, are NaN.
  """
  if edit.shift_bp == 0:
    return values
  at = edit.start - view.first
  moved = np.full_like(values, np.nan)
  moved[:at] = values[:at]
  replaced = min(edit.removed_bp, len(edit.inserted))
  moved[at : at + replaced] = values[at : at + replaced]
  if edit.shift_bp > 0 and at + replaced > 0:
    before = at + replaced - 1
    moved[before] = values[before : before + 1 + edit.shift_bp].mean(axis=0)
  after = values[at + len(edit.inserted) :]
  room = view.window_bp - (at + edit.removed_bp)
  moved[at + edit.removed_bp :][: len(after)] = after[:room]
  return moved


def grid_offsets(count: int) -> list[int]:
  """Chooses places of a window on the model's grid: about a bin's `count`-th part apart.

  The model halves the sequence seven times, so the distance is odd: places at even distances would
  all agree about which bases are pooled first, and an insertion of one base would change that for
  all of them alike.

  Raises:
    ConfigError: not from 1 to 128.
  """
  if not 1 <= count <= BIN_BP:
    raise ConfigError(f"offsets={count}; expected 1 to {BIN_BP}")
  return [number * (BIN_BP // count | 1) for number in range(count)]


def shifted(values: Float32[np.ndarray, "W C"], shift_bp: int) -> Float32[np.ndarray, "W C"]:
  """Moves the values of a window to one that begins `shift_bp` before it; NaN where none are."""
  if shift_bp == 0:
    return values
  moved = np.full_like(values, np.nan)
  if shift_bp > 0:
    moved[shift_bp:] = values[:-shift_bp]
  else:
    moved[:shift_bp] = values[-shift_bp:]
  return moved
