"""Files that are either whole or absent, hashes of files, the version, and optional packages."""

import concurrent.futures
import contextlib
import hashlib
import importlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from alphaecoli import __version__
from alphaecoli.errors import ConfigError, DataError, reason_of

DEFAULT_MODEL = "k12"  # of those in the package; checkpoints/packed.py finds them
CHECKSUM = "checksum"  # the key of a JSON object's own
_BLOCK_BYTES, _READERS = 1 << 22, 4


@contextlib.contextmanager
def atomic_write(path: Path, newline: str | None = None) -> Iterator[TextIO]:
  """Opens a text file that gets its name when it is complete and on the disk.

  After an exception the file that had the name before, if any, is as it was.

  Args:
    path: name of the complete file; its directory exists.
    newline: treatment of line ends, as in `open`.

  Raises:
    DataError: the file can not be written.
  """
  temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
  try:
    with open(temporary, "w", encoding="utf-8", newline=newline) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    raise DataError(f"{path}: can not be written: {error.strerror or error}") from error
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
  """Writes a text file that is either whole or absent.

  Raises:
    DataError: the file can not be written.
  """
  with atomic_write(path) as file:
    file.write(text)


def write_json(path: Path, value: Any) -> None:
  """Writes indented JSON that is either whole or absent.

  Raises:
    DataError: the file can not be written.
  """
  write_text(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def tsv_writer(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Iterable[Any]], None]]:
  """Opens a table of tab-separated values that is either whole or absent.

  Args:
    path: name of the complete table.
    columns: names of the columns, the first line.

  Yields:
    A function that adds a row: floats with six significant digits, None and NaN as empty cells.

  Raises:
    DataError: the table can not be written.
  """
  with atomic_write(path) as file:

    def add(row: Iterable[Any]) -> None:
      file.write("\t".join(map(_cell, row)) + "\n")

    add(columns)
    yield add


def _cell(value: Any) -> str:
  """Formats one value of a table."""
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return ""
  return f"{value:.6g}" if isinstance(value, float) else str(value)


def make_folder(path: Path) -> None:
  """Makes a folder, and those above it, where they are missing.

  Raises:
    DataError: it can not be made.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise DataError(f"{path}: can not be written to: {error.strerror}") from error


def hash_file(path: Path) -> str:
  """Returns the SHA-256 of a file's bytes, in hexadecimal digits.

  Raises:
    DataError: the file can not be read.
  """
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise DataError(f"{path}: can not be read: {error.strerror or error}") from error


def read_json(path: Any) -> Any:
  """Reads a JSON file.

  Raises:
    DataError: it can not be read, or is not JSON.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise DataError(f"{path} is not JSON that can be read: {reason_of(error)}") from error


def checksum_file(path: Any) -> tuple[int, str]:
  """Computes length and CRC-32 of a file, which tells accidents, at several GB a second."""
  length = value = 0
  with path.open("rb") as file:
    while block := file.read(_BLOCK_BYTES):
      length, value = length + len(block), zlib.crc32(block, value)
  return length, f"{value:08x}"


def checksum_files(folder: Any, names: Sequence[str]) -> dict[str, tuple[int, str]]:
  """Computes lengths and CRC-32 of files in a folder, several at once.

  Args:
    folder: path of pathlib's kind, such as epath.Path.
    names: paths of the files within it.
  """
  with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
    found = pool.map(checksum_file, (folder / name for name in names))
    return dict(zip(names, found, strict=True))


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a JSON object with the CRC-32 of its content as a further entry."""
  content = {key: entry for key, entry in value.items() if key != CHECKSUM}
  text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
  return {**content, CHECKSUM: f"{zlib.crc32(text.encode()):08x}"}


def is_whole(value: Mapping[str, Any]) -> bool:
  """Returns whether a JSON object that was `sealed` still has that content."""
  return value.get(CHECKSUM) == sealed(value)[CHECKSUM]


def version() -> str:
  """Returns the version of alphaecoli, which need not be installed."""
  return __version__


def optional(package: str, extra: str) -> Any:
  """Imports a package that comes with an extra.

  Args:
    package: name of the module.
    extra: name of the extra of alphaecoli that installs it.

  Raises:
    ConfigError: the package is not installed.
  """
  try:
    return importlib.import_module(package)
  except ModuleNotFoundError as error:
    raise ConfigError(
      f"{error.name} is not installed and this needs it: pip install 'alphaecoli[{extra}]'"
    ) from error


def analysis(package: str) -> Any:
  """Imports pandas or xarray.

  Raises:
    ConfigError: the package is not installed.
  """
  return optional(package, "analysis")
