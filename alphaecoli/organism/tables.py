"""Tab-separated tables, plain or gzip."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from alphaecoli.annotation.files import open_text
from alphaecoli.errors import DataError


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as text.

  Attributes:
    columns: names from the header line.
    rows: cells of each line, as many as there are columns, with the line's number.
  """

  columns: tuple[str, ...]
  rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_table(path: Path, what: str) -> Table:
  """Reads a header line and rows; blank lines, and comments above the header, are passed over.

  A comment is a line that starts with # and has no tab. A header one cell short, as R writes it,
  lacks the name of the first column.

  Raises:
    DataError: missing, unreadable, without rows, not separated by tabs, or a row has another
      number of cells; names the line.
  """
  header: Sequence[str] = ()
  rows: list[tuple[int, tuple[str, ...]]] = []
  with open_text(path, what) as file:
    for number, line in enumerate(file, start=1):
      text = line.rstrip("\r\n").removeprefix("\ufeff")
      if not text.strip() or (text.startswith("#") and "\t" not in text and not header):
        continue
      cells = tuple(_unquote(cell) for cell in text.split("\t"))
      if not header:
        header = cells
        if len(cells) == 1 and text.count(","):
          raise DataError(f"{path}, line {number}: no tabs; expected {what}, separated by tabs")
        continue
      if not rows and len(cells) == len(header) + 1:
        header = ("", *header)
      if len(cells) != len(header):
        raise DataError(f"{path}, line {number}: {len(cells)} cells; the header has {len(header)}")
      rows.append((number, cells))
  if not rows:
    raise DataError(f"{path}: no rows; expected {what}: a header line, then one line each")
  return Table(tuple(header), tuple(rows))


def _unquote(cell: str) -> str:
  """A cell without the spaces and quotes around it."""
  cell = cell.strip()
  return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
