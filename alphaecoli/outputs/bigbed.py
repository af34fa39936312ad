"""BigBed with nine columns: features of contigs, indexed."""

import io
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alphaecoli.outputs.bigwig import BIGBED, IN_BLOCK, WINDOW, IndexedFile, join, slices

_BED = """table bed
"Features with nine columns"
(
string chrom; "contig"
uint chromStart; "first base"
uint chromEnd; "base after the last one"
string name; "name"
uint score; "0 to 1000"
char[1] strand; "strand"
uint thickStart; "as chromStart"
uint thickEnd; "as chromEnd"
uint itemRgb; "colour"
)
"""


class Feature(NamedTuple):
  """A line of BED with nine columns.

  Attributes:
    contig: name of the contig.
    start: first base, 0-based.
    end: base after the last one, within the contig.
    name: words to show.
    score: 0 to 1000.
    strand: +, - or a dot.
    colour: red, green and blue, 0 to 255.
  """

  contig: str
  start: int
  end: int
  name: str
  score: int
  strand: str
  colour: tuple[int, int, int]

  @property
  def rest(self) -> str:
    """Returns the columns after the place."""
    colour = ",".join(map(str, self.colour))
    return "\t".join(map(str, (self.name, self.score, self.strand, self.start, self.end, colour)))


def write_bigbed(
  path: Path, contigs: Sequence[tuple[str, int]], features: Iterable[Feature]
) -> None:
  """Writes features as BigBed with nine columns, without zoom levels: they are few.

  Args:
    path: name of the file.
    contigs: names and lengths, sorted by name (in bytes).
    features: features of these contigs, in any order.

  Raises:
    DataError: the file can not be written.
  """
  file = _BigBedFile(path, contigs, 0, _BED)
  file.write_all(features)


class _BigBedFile(IndexedFile):
  """One BigBed."""

  magic = BIGBED

  def write_all(self, features: Iterable[Feature]) -> None:
    """Writes all features, and completes the file."""
    rows: dict[int, list[Feature]] = {}
    for feature in features:
      rows.setdefault(self._numbers[feature.contig], []).append(feature)
    try:
      with self._file:
        for number in sorted(rows):
          members = sorted(rows[number], key=lambda f: (f.start, f.end))
          for part in (members[p] for p in slices(len(members), IN_BLOCK // 8)):
            lines = [
              struct.pack("<III", number, f.start, f.end) + f.rest.encode() + b"\0" for f in part
            ]
            end = max(f.end for f in part)
            self._add_block(number, part[0].start, end, b"".join(lines))
        widths = np.array([[f.end - f.start] for m in rows.values() for f in m], np.float64)
        if len(widths):
          self._total = join(_covered(widths), len(widths))
        index_at = self._end_blocks(self._data_at)
        self._file.seek(self._data_at)
        self._file.write(struct.pack("<Q", len(widths)))
        self._file.seek(0, io.SEEK_END)
        self._write_head(index_at, (9, 9), b"")
    except OSError as error:
      raise self._fault(error) from error


def _covered(widths: np.ndarray) -> np.ndarray:
  """Summarises features by the bases that each covers once."""
  rows = np.ones(len(widths), WINDOW)
  rows["count"] = rows["sum"] = rows["squares"] = widths[:, 0]
  return rows
