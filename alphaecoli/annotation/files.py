"""Text files, plain or gzip."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from alphaecoli.errors import DataError


@contextlib.contextmanager
def open_text(path: Path, what: str, errors: str = "strict") -> Iterator[TextIO]:
  """Opens a file, plain or gzip (told by content, not by name), as UTF-8 text.

  Args:
    path: the file.
    what: its format, for messages.
    errors: what becomes of bytes that are not UTF-8, as in `open`.

  Raises:
    DataError: missing, truncated or not text, there or while the caller reads.
  """
  try:
    with open(path, "rb") as raw:
      packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as raw:
      yield io.TextIOWrapper(raw, encoding="utf-8", errors=errors)  # type: ignore[arg-type]
  except UnicodeDecodeError as error:
    raise DataError(f"{path}: not a text file ({error.reason}); expected {what}") from error
  except (EOFError, zlib.error) as error:
    raise DataError(f"{path}: the gzip file is truncated or corrupt: {error}") from error
  except OSError as error:
    raise DataError(f"{path}: can not be read: {error.strerror or error}") from error
