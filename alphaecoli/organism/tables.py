"""Tables as spreadsheets and tools write them: separators, quotes, headers and their absence."""

import csv
import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from alphaecoli.errors import DataError, reason_of
from alphaecoli.genomics.expression import EMPTY, NUMBER
from alphaecoli.genomics.quality import shown
from alphaecoli.genomics.text import open_text

LOGGER = logging.getLogger(__name__)
ONLY = "values"  # name of the one column of numbers in a table without header
_SEPARATORS = ("\t", ";", ",", " ")  # in the order in which they are tried
_STAR = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
_NAMES = re.compile(  # of the column with the names of genes
  r"|((ensembl|ncbi|entrez|stable|systematic|unique|target|tracking|transcript|gene|locus|feature|"
  r"bsu|b|orf|old)[ _.-]*)*(stable[ _.-]*)?(genes?|locus|loci|tags?|ids?|geneids?|names?|orfs?|"
  r"symbols?|targets?|features?|transcripts?|synonyms?|keys?|numbers?|identifiers?|accessions?)",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as text.

  Attributes:
    columns: names from the header line.
    rows: cells of each line, as many as there are columns, with the line's number.
  """

  columns: tuple[str, ...]
  rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_cells(path: Path, what: str, is_gene: Callable[[str], bool] | None = None) -> Table:
  """Reads a table with tabs, semicolons, commas or spaces between its cells.

  Comments above the header are skipped. A header one cell short, as R writes it, lacks the name of
  the first column. Empty cells after the last column, which trailing separators make, are dropped.

  Args:
    path: file to read, plain or packed.
    what: words for the expected table, for messages.
    is_gene: test whether a name is one of a gene: a table of genes may lack its header.

  Raises:
    DataError: missing, without rows, or a row has another number of cells; names the line.
  """
  with open_text(path, what) as file:
    lines = [
      (number, line.rstrip("\r\n").removeprefix("\ufeff"))
      for number, line in enumerate(file, start=1)
      if line.strip("\ufeff \t\r\n")
    ]
  if lines and re.fullmatch(r"sep=.?", lines[0][1], re.IGNORECASE):  # for Excel
    lines = lines[1:]
  comments = next((i for i, (_, line) in enumerate(lines) if line[0] != "#"), len(lines))
  try:
    separator = _separator([line for _, line in lines[comments:]])
    rows = [(number, _split(line, separator)) for number, line in lines[comments:]]
    above = _split(lines[comments - 1][1].lstrip("#"), separator) if comments else []
  except csv.Error as error:
    raise DataError(f"{path}: no table ({reason_of(error)}); expected {what}") from error
  header: list[str] | None = None
  if len(above) > 1 and rows and len(above) == len(rows[0][1]) and _is_data(rows[0][1]):
    header = above
  elif rows and is_gene is not None:
    header = _missing_header(path, *rows[0], is_gene)
  if header is None and rows:
    header, rows = rows[0][1], rows[1:]
  if header is None or not rows:
    raise DataError(f"{path}: no rows; expected {what}: a header line, then one line each")
  return _rectangular(path, header, rows, separator)


def _rectangular(
  path: Path, header: list[str], rows: list[tuple[int, list[str]]], separator: str
) -> Table:
  """Makes header and rows equally long.

  Raises:
    DataError: they can not be.
  """
  trailing = all(len(cells) > 1 and not cells[-1] for _, cells in rows)
  extra = {len(cells) - len(header) for _, cells in rows}
  named = _NAMES.fullmatch(header[0]) is not None
  if extra == {1} and not (trailing and named):
    if trailing or named or separator == ",":
      raise DataError(
        f"{path}, line {rows[0][0]}: {len(header) + 1} cells; the header has {len(header)}: name "
        "every column, the first one 'gene'"
        + (", and write decimal points, not commas" if separator == "," else "")
      )
    header = ["", *header]
  elif extra == {-1} and not header[-1]:
    header = header[:-1]
  while (
    len(header) > 2 and not header[-1] and all(not "".join(c[len(header) - 1 :]) for _, c in rows)
  ):
    header = header[:-1]
  table = []
  for number, cells in rows:
    if len(cells) < len(header) or any(cells[len(header) :]):
      raise DataError(f"{path}, line {number}: {len(cells)} cells; the header has {len(header)}")
    table.append((number, tuple(cells[: len(header)])))
  return Table(tuple(header), tuple(table))


def _missing_header(
  path: Path, number: int, cells: list[str], is_gene: Callable[[str], bool]
) -> list[str] | None:
  """Returns names for the columns where the first line is a gene's; None where it is a header.

  Raises:
    DataError: it may be either, or there are several samples without a name.
  """
  numbers = [i for i, cell in enumerate(cells) if i and NUMBER.fullmatch(cell)]
  known = is_gene(cells[0]) or cells[0].startswith("__") or cells[0] in _STAR
  if not numbers or not (known or _is_data(cells)) or _NAMES.fullmatch(cells[0]):
    return None
  if len(numbers) > 1 or not known:
    raise DataError(
      f"{path}, line {number}: {shown(cells)}: no header line? add one: gene, then the names of "
      "the samples (of STAR's ReadsPerGene.out.tab keep the one column of your library's strand)"
    )
  LOGGER.info("%s has no header line; its first line is read as a gene", path)
  return ["gene", *(ONLY if i in numbers else f"column {i + 1}" for i in range(1, len(cells)))]


def _separator(lines: Sequence[str]) -> str:
  """Returns what stands between the cells of the rows, by a number of cells that is the same."""
  body = lines[1:51] or lines[:1]
  counts = {s: [len(_split(line, s)) for line in body] or [0] for s in _SEPARATORS}
  regular = [s for s, n in counts.items() if min(n) > 1 and len(set(n)) == 1]
  likely = [s for s, n in counts.items() if min(n) > 1]
  if "\t" in likely or not likely:
    return "\t"
  return max(regular or likely, key=lambda s: counts[s][0])  # of equals the first


def _split(line: str, separator: str) -> list[str]:
  """Splits a line into cells, without the quotes and spaces around them."""
  spaced = separator == " "
  cells = next(csv.reader([line.strip() if spaced else line], delimiter=separator,
                          skipinitialspace=spaced), [])  # fmt: skip
  return [cell.strip() for cell in cells]


def _is_data(cells: Sequence[str]) -> bool:
  """Returns whether cells after the first are numbers, as no header has them."""
  return any(NUMBER.fullmatch(cell) for cell in cells[1:]) and all(
    cell in EMPTY or NUMBER.fullmatch(cell) for cell in cells[1:]
  )
