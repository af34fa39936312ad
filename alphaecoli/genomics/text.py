"""Files that are plain or compressed, and text of theirs in messages."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from alphaecoli.errors import DataError, reason_of

MAX_SHOWN = 60  # letters of a file's content in a message
PACKED = (".gz", ".xz", ".bz2")  # endings of compressed files; what they are is told by content
_OPENERS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
_ARCHIVES = {
  b"PK\x03\x04": "a zip archive, or an Excel workbook; unpack it first, or save it as CSV",
  b"\x28\xb5\x2f\xfd": "a zstd file; unpack it first",
}


def one_line(text: str) -> str:
  """Returns text without the tabs and line ends that escapes and quotes may hide."""
  return " ".join(text.split())


def cut(text: str, most: int = MAX_SHOWN) -> str:
  """Shortens text of a file for a message."""
  return text if len(text) <= most else f"{text[:most]}…"


def without_packed(name: str) -> str:
  """Returns a file's name without the ending of a compressed one, in either case."""
  return next((name[: -len(p)] for p in PACKED if name.lower().endswith(p)), name)


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[io.BufferedReader]:
  """Opens a file, plain, gzip, xz or bzip2 (told by content, not by name), for its bytes.

  Raises:
    DataError: missing, truncated or an archive, when opened or while the caller reads.
  """
  opener: Any = None
  try:
    with open(path, "rb") as file:
      head = file.read(6)
    if kind := next((kind for magic, kind in _ARCHIVES.items() if head.startswith(magic)), ""):
      raise DataError(f"{path}: {kind} (gzip, xz and bzip2 are read as they are)")
    opener = next((open_ for magic, open_ in _OPENERS.items() if head.startswith(magic)), None)
    with opener(path) if opener else open(path, "rb") as file:
      yield file
  except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
    raise _damaged(path, error) from error
  except OSError as error:
    if opener is not None and error.errno is None:  # bzip2's way to say that it is damaged
      raise _damaged(path, error) from error
    raise DataError(f"{path}: can not be read: {error.strerror or error}") from error


def _damaged(path: Path, error: Exception) -> DataError:
  """Makes the error of a compressed file that can not be unpacked."""
  return DataError(f"{path}: the compressed file is truncated or corrupt: {reason_of(error)}")


@contextlib.contextmanager
def open_text(path: Path, what: str, errors: str = "strict") -> Iterator[TextIO]:
  """Opens a file as text, plain or compressed; lines end with LF, CR or both.

  Text is UTF-8, or UTF-16 where the file begins so, as Excel's "Unicode text" does.

  Args:
    path: file to read.
    what: format of the file, for messages.
    errors: treatment of bytes that are not UTF-8, as in `open`.

  Raises:
    DataError: missing, truncated or not text, when opened or while the caller reads.
  """
  with open_binary(path) as file:
    wide = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
      yield io.TextIOWrapper(file, encoding="utf-16" if wide else "utf-8-sig", errors=errors)
    except UnicodeError as error:
      reason = getattr(error, "reason", error)
      raise DataError(f"{path}: not a text file in UTF-8 ({reason}); expected {what}") from error
