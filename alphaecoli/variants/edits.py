"""Changing a window's sequence, and comparing what is predicted before and after.

Reference and alternative are predicted in windows that begin at the same base, so that the edit
lies at the same place in both. What follows an insertion or a deletion has moved; it is compared
base by base in the reference's coordinates.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.genes import ContigFeatures, Gene
from alphaecoli.genomics.intervals import StartEnd
from alphaecoli.genomics.sequence import UNKNOWN, Contig, decode, encode
from alphaecoli.genomics.vcf import Variant, shortened
from alphaecoli.schema import BIN_BP

Kind = tuple[int, int]  # bases removed and inserted
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


def refusal(variant: Variant, contigs: Mapping[str, Contig], window_bp: int) -> str:
  """Says why a variant can not be scored, as `kind: details`; empty if it can."""
  if variant.fault:
    return variant.fault
  if variant.contig not in contigs:
    names = ", ".join(list(contigs)[:5]) + (" …" if len(contigs) > 5 else "")
    return f"unknown contig: no {shortened(variant.contig)!r} in the genome, which has {names}"
  return _misfit(variant, contigs[variant.contig], window_bp)


def _misfit(variant: Variant, contig: Contig, window_bp: int) -> str:
  """Says why a variant does not fit its contig."""
  ref, length = variant.ref.upper(), contig.length_bp
  last = length if contig.circular else length - len(ref) + 1
  if not 1 <= variant.position <= last:
    kind = "circular" if contig.circular else "linear"
    return f"outside the contig: REF at {variant.position}; {contig.name} has {length} bp, {kind}"
  longest, most = max(len(ref), len(variant.alt)), min(window_bp // 2, length - 1)
  if longest > most:
    return (
      f"allele too long: {longest} bp; at most {most}: half of the window, less than the contig"
    )
  codes = contig.codes if contig.vcf_codes is None else contig.vcf_codes
  at = np.arange(len(ref)) + variant.start
  found = decode(codes.take(at, mode="wrap"))
  if found == ref:
    return ""
  ambiguous = not np.array_equal(codes.take(at, mode="wrap"), contig.codes.take(at, mode="wrap"))
  note = " (of an ambiguity letter the first base, as VCF says)" if ambiguous else ""
  return f"reference mismatch: REF is {shortened(ref)}, the genome has {shortened(found)}{note}"


def kind_of(variant: Variant) -> Kind:
  """Returns how many bases a variant removes and inserts, without those that both alleles share."""
  edit = trimmed(variant)
  return edit.removed_bp, len(edit.inserted)


def random_variant(
  kind: Kind, contigs: Mapping[str, Contig], key: tuple[int, ...]
) -> Variant | None:
  """Draws a variant of a kind: its place evenly, its inserted bases as frequent as the contig's.

  Args:
    kind: bases removed and inserted.
    contigs: contigs of the genome, by name.
    key: seed of the draw; variants of all kinds lie at the place that it gives.

  Returns:
    None where it can not be drawn there, as at the end of a linear contig.
  """
  rng = np.random.default_rng(key)
  names = list(contigs)
  lengths = np.array([contigs[name].length_bp for name in names])
  contig = contigs[names[rng.choice(len(names), p=lengths / lengths.sum())]]
  start = int(rng.integers(contig.length_bp))
  removed, inserted = kind
  # As in VCF, a base that stays stands before what is inserted or deleted.
  kept = int(removed == 0 or inserted == 0)
  at = np.arange(start, start + kept + removed)
  ref = contig.codes.take(at, mode="wrap")
  new = contig.codes[np.random.default_rng((*key, *kind)).integers(contig.length_bp, size=inserted)]
  if UNKNOWN in ref or UNKNOWN in new or (not contig.circular and at[-1] >= contig.length_bp):
    return None
  variant = Variant(contig.name, start + 1, decode(ref), decode(ref[:kept]) + decode(new))
  return variant if kind_of(variant) == kind else None


def distance_bp(gene: Gene, start: int, end: int, view: View) -> int:
  """Measures from a gene to an interval: 0 if they touch, negative upstream of the gene.

  -1 is the base before the gene's first one, 1 the base after its last one.
  """
  first = gene.start
  if view.circular:  # the copy of the gene that lies nearest
    away = (first + gene.end - start - end) / 2
    first -= view.length_bp * round(away / view.length_bp)
  last = first + gene.end - gene.start
  gap = 0
  if start >= last:
    gap = start - last + 1
  elif end <= first:
    gap = end - first - 1
  return -gap if gene.strand < 0 else gap


def genes_in(features: ContigFeatures, view: View) -> list[Gene]:
  """Returns the genes that a view shows, at least in part, in their order."""
  shown = np.flatnonzero(_touches(features.gene_bounds, view))
  return [features.genes[i] for i in shown.tolist()]


def operons_in(features: ContigFeatures, view: View) -> list[StartEnd]:
  """Returns the given operons that a view shows, at least in part, in their order."""
  shown = features.operon_bounds[_touches(features.operon_bounds, view)]
  return [(start, end) for start, end in shown.tolist()]


def _touches(bounds: Int[np.ndarray, "n 2"], view: View) -> Bool[np.ndarray, " n"]:
  """Tells which intervals the view shows, at least in part."""
  low, high = view.first + view.low, view.first + view.high
  start, end = bounds.T
  if not view.circular:
    return (start < high) & (end > low)
  # An interval shows if it begins in view, or begins before and reaches around into it.
  begin = (start - low) % view.length_bp
  return (begin < high - low) | (begin + end - start > view.length_bp)
