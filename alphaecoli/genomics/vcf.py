"""Variants as VCF writes them: 1-based positions, one alternative allele each."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alphaecoli.errors import DataError
from alphaecoli.genomics.text import open_text

NUCLEOTIDES = frozenset("ACGT")
MAX_DIGITS = 15  # of a position
# Spellings of a column, in lower case.
COLUMNS = {
  "contig": ("contig", "chrom", "#chrom", "chromosome"),
  "position": ("pos", "position"),
  "ref": ("ref", "reference"),
  "alt": ("alt", "alternative", "alternate"),
  "id": ("id", "name"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
  """One alternative allele.

  Attributes:
    contig: name of the contig.
    position: 1-based position of the first base of `ref`, as in VCF.
    ref: bases of the genome; at least one.
    alt: bases in their place; at least one, as in VCF.
    id: name of the variant; empty where it has none.
  """

  contig: str
  position: int
  ref: str
  alt: str
  id: str = ""

  def __str__(self) -> str:
    return f"{self.contig}:{self.position}{self.ref}>{self.alt}"

  @property
  def start(self) -> int:
    """Returns the first base, 0-based."""
    return self.position - 1

  @property
  def fault(self) -> str:
    """Says why the alleles cannot be compared as sequences; "" if they can."""
    if self.alt in ("", "."):
      return "no alternative allele"
    if self.alt == "*":
      return "allele *: deleted by another record, without a sequence of its own"
    if set(self.alt) & set("<>[]"):
      return f"symbolic allele or breakend: {shortened(self.alt)}; write its sequence out"
    for name, bases in (("REF", self.ref), ("ALT", self.alt)):
      if not bases or set(bases.upper()) - NUCLEOTIDES:
        return f"{name} is no sequence: {shortened(bases)!r}; expected the letters A C G T"
    return "ALT is the same as REF" if self.ref.upper() == self.alt.upper() else ""


def shortened(bases: str, most: int = 20) -> str:
  """Shortens bases for a message."""
  return bases if len(bases) <= most else f"{bases[:most]}… ({len(bases)} bp)"


def read_vcf(path: Path) -> Iterator[Variant]:
  """Reads the variants of a VCF file, plain or compressed: one for each alternative, in order.

  Only the columns CHROM POS ID REF ALT are read; genotypes and the header's definitions are not.

  Raises:
    DataError: missing, truncated, or a line that is not VCF; names the line.
  """
  with open_text(path, "VCF") as file:
    for number, line in enumerate(file, start=1):
      if line.startswith("#") or not line.strip():
        continue
      fields = line.rstrip("\r\n").split("\t")
      if len(fields) < 5 or not (fields[1].isdecimal() and len(fields[1]) <= MAX_DIGITS):
        raise DataError(
          f"{path}, line {number}: {line.strip()[:60]!r}; expected VCF: CHROM, POS (a number), ID, "
          "REF, ALT, separated by tabs"
        )
      contig, position, name, ref, alts = fields[:5]
      for alt in alts.split(","):
        yield Variant(contig, int(position), ref, alt, "" if name == "." else name)


def read_contig_lengths(path: Path) -> dict[str, int]:
  """Reads the lengths of contigs from the header of a VCF file: ##contig=<ID=…,length=…>.

  Raises:
    DataError: missing, or truncated.
  """
  lengths = {}
  with open_text(path, "VCF") as file:
    for line in itertools.takewhile(lambda line: line.startswith("#"), file):
      fields = dict(re.findall(r"[<,](\w+)=([^,>]*)", line)) if "##contig=<" in line else {}
      length = fields.get("length", "")
      if "ID" in fields and length.isdecimal() and len(length) <= MAX_DIGITS:
        lengths[fields["ID"]] = int(length)
  return lengths


def as_variants(source: Any) -> list[Variant]:
  """Converts a data frame or variants to a list of variants.

  A data frame has the columns chrom (or contig), pos (1-based), ref and alt, in any case, and
  perhaps id; several alternative alleles may be joined by commas.

  Raises:
    DataError: something else, or a column is missing.
  """
  if isinstance(source, Variant):
    return [source]
  if hasattr(source, "columns") and hasattr(source, "itertuples"):
    return list(_rows(source))
  if not isinstance(source, Iterable):
    raise DataError(
      f"variants are a {type(source).__name__}; expected a VCF file's name, a data frame, or "
      "alphaecoli.Variant objects"
    )
  variants = []
  for item in source:
    if not isinstance(item, Variant):
      raise DataError(
        f"variant {item!r}; expected alphaecoli.Variant(contig, position, ref, alt), 1-based"
      )
    variants.append(item)
  return variants


def _rows(frame: Any) -> Iterator[Variant]:
  """Reads the variants of a data frame."""
  spelled = {str(column).lower(): column for column in frame.columns}
  found = {
    key: next((spelled[s] for s in spellings if s in spelled), None)
    for key, spellings in COLUMNS.items()
  }
  absent = [key for key, column in found.items() if column is None and key != "id"]
  if absent:
    raise DataError(
      f"the data frame has no column for {', '.join(absent)}; it has "
      f"{', '.join(map(str, frame.columns))}; expected chrom, pos (1-based), ref, alt"
    )
  columns = [frame[found[key]] for key in ("contig", "position", "ref", "alt")]
  names = [""] * len(frame) if found["id"] is None else frame[found["id"]]
  for row, (contig, position, ref, alts, name) in enumerate(zip(*columns, names, strict=True)):
    if not (float(position).is_integer() if _is_number(position) else False):
      raise DataError(f"the data frame, row {row}: position {position!r}; expected a whole number")
    for alt in str(alts).split(","):
      yield Variant(str(contig), int(position), str(ref), alt, "" if _is_none(name) else str(name))


def _is_none(name: Any) -> bool:
  """Returns whether a cell holds no name: a dot as in VCF, None, NaN or pandas' NA."""
  return name is None or str(name) in (".", "nan", "<NA>")


def _is_number(value: Any) -> bool:
  """Returns whether a cell holds a number, numpy's included."""
  return hasattr(value, "__index__") or isinstance(value, float)
