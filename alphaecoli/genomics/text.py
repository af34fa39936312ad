"""Files that are plain or compressed, and tables in them."""

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TextIO

from alphaecoli.errors import DataError

MAX_SHOWN = 60  # letters of a file's content in a message
PACKED = (".gz", ".xz", ".bz2")  # endings of compressed files; what they are is told by content
_OPENERS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
_ARCHIVES = {b"PK\x03\x04": "zip archive", b"\x28\xb5\x2f\xfd": "zstd file"}


def cut(text: str, most: int = MAX_SHOWN) -> str:
  """Shortens text of a file for a message."""
  return text if len(text) <= most else f"{text[:most]}…"


def without_packed(name: str) -> str:
  """Returns a file's name without the ending of a compressed one, in either case."""
  return next((name[: -len(p)] for p in PACKED if name.lower().endswith(p)), name)


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
  """Opens a file, plain, gzip, xz or bzip2 (told by content, not by name), for its bytes.

  Raises:
    DataError: missing, truncated or an archive, when opened or while the caller reads.
  """
  opener: Any = None
  try:
    with open(path, "rb") as file:
      head = file.read(6)
    if kind := next((kind for magic, kind in _ARCHIVES.items() if head.startswith(magic)), ""):
      raise DataError(
        f"{path}: a {kind}; unpack it first (gzip, xz and bzip2 are read as they are)"
      )
    opener = next((open_ for magic, open_ in _OPENERS.items() if head.startswith(magic)), None)
    with opener(path) if opener else open(path, "rb") as file:
      yield file
  except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
    raise DataError(f"{path}: the compressed file is truncated or corrupt: {error}") from error
  except OSError as error:
    if opener is not None and error.errno is None:  # bzip2's way to say that it is damaged
      raise DataError(f"{path}: the compressed file is truncated or corrupt: {error}") from error
    raise DataError(f"{path}: can not be read: {error.strerror or error}") from error


@contextlib.contextmanager
def open_text(path: Path, what: str, errors: str = "strict") -> Iterator[TextIO]:
  """Opens a file as UTF-8 text, plain or compressed; lines end with LF, CR or both.

  Args:
    path: file to read.
    what: format of the file, for messages.
    errors: treatment of bytes that are not UTF-8, as in `open`.

  Raises:
    DataError: missing, truncated or not text, when opened or while the caller reads.
  """
  with open_binary(path) as file:
    try:
      yield io.TextIOWrapper(file, encoding="utf-8-sig", errors=errors)
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
      text = line.rstrip("\r\n")
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
