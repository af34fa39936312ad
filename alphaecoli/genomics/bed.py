"""Named regions of a genome, such as promoter elements or operons, from GFF3 or BED files."""

import dataclasses
from pathlib import Path

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import one_line
from alphaecoli.genomics.gff3 import STRANDS, is_feature, is_position, read_features
from alphaecoli.genomics.text import open_text


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
  """A named region, 0-based and half-open; an end beyond the contig's length wraps around.

  Attributes:
    type: the feature's type in GFF3; empty in BED.
  """

  contig: str
  start: int
  end: int
  strand: int
  name: str
  type: str


def read_elements(path: Path, kind: str = "") -> list[Element]:
  """Reads the features of a GFF3 file, or the lines of a BED file, plain or gzip.

  A file whose first line has nine columns with numbers in the fourth and fifth is GFF3.

  Args:
    path: file to read.
    kind: type of the GFF3 features to take; "" takes all. In BED, all lines count.

  Raises:
    DataError: missing, neither GFF3 nor BED, or nothing in it.
  """
  with open_text(path, "GFF3 or BED") as file:
    lines = [line.rstrip("\r\n") for line in file]
  rows = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
  rows = [(n, line) for n, line in rows if not line.startswith(("#", "track ", "browser "))]
  if rows and is_feature(rows[0][1]):
    features = [feature for feature, _ in read_features(path)]
    elements = [
      Element(f.contig, f.start, f.end, f.strand, f.name or f.id or f.type, f.type)
      for f in features
      if kind in ("", f.type)
    ]
  else:
    elements = [_bed(path, number, line) for number, line in rows]
  if not elements:
    raise DataError(f"{path}: no {kind or 'feature'} in it; expected GFF3 or BED")
  return elements


def _bed(path: Path, number: int, line: str) -> Element:
  """Parses a line of BED: contig, start (0-based), end, then perhaps name, score, strand."""
  fields = line.split("\t") if "\t" in line else line.split()
  good = len(fields) >= 3 and is_position(fields[1]) and is_position(fields[2])
  if not good or int(fields[1]) >= int(fields[2]):
    raise DataError(
      f"{path}, line {number}: {line[:60]!r}; expected BED (contig, start, end; 0-based) or GFF3"
    )
  strand = STRANDS.get(fields[5], 0) if len(fields) > 5 else 0
  name = one_line(fields[3]) if len(fields) > 3 else ""
  return Element(fields[0], int(fields[1]), int(fields[2]), strand, name, "")
