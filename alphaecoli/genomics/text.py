"""Files that are plain or gzip, and tables in them."""

import contextlib
import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TextIO

from alphaecoli.errors import DataError


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
  """Opens a file, plain or gzip (told by content, not by name), for its bytes.

  Raises:
    DataError: missing or truncated, when opened or while the caller reads.
  """
  try:
    with open(path, "rb") as file:
      packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as file:
      yield file
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise DataError(f"{path}: the gzip file is truncated or corrupt: {error}") from error
  except OSError as error:
    raise DataError(f"{path}: can not be read: {error.strerror or error}") from error


@contextlib.contextmanager
def open_text(path: Path, what: str, errors: str = "strict") -> Iterator[TextIO]:
  """Opens a file as UTF-8 text, plain or gzip.

  Args:
    path: file to read.
    what: format of the file, for messages.
    errors: treatment of bytes that are not UTF-8, as in `open`.

  Raises:
    DataError: missing, truncated or not text, when opened or while the caller reads.
  """
  with open_binary(path) as file:
    try:
      yield io.TextIOWrapper(file, encoding="utf-8", errors=errors)
    except UnicodeDecodeError as error:
      raise DataError(f"{path}: not a text file ({error.reason}); expected {what}") from error


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
  """Reads a header line and rows; blank lines, and comments above the header, are skipped.

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
  """Strips the spaces and quotes around a cell."""
  cell = cell.strip()
  return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
