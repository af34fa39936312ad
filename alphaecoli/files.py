"""Files that are either whole or absent, here or in a bucket; hashes of files, optional packages.

A path is pathlib's on this machine, and in a bucket (gs://) etils' `epath.Path`, which has the same
methods. A bucket has no renames and no appending: a file there is written at once, and whole.
"""

import concurrent.futures
import contextlib
import functools
import gc
import hashlib
import importlib
import io
import json
import math
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TextIO

from alphaecoli.errors import ConfigError, DataError, reason_of

DEFAULT_MODEL = "k12"  # of those in the package; checkpoints/packed.py finds them
CHECKSUM = "checksum"  # the key of a JSON object's own
_AT_ONCE = 8  # files of a bucket
if TYPE_CHECKING:
  AnyPath = Path
else:
  AnyPath = PurePath  # epath.Path is one too


def is_remote(path: Any) -> bool:
  """Returns whether a path, or its text, is one in a bucket."""
  return "://" in str(path)


def as_path(text: Any) -> AnyPath:
  """Returns the path that a user names, on this machine or in a bucket.

  Raises:
    ConfigError: it is remote and not gs://, or what reads and writes buckets is not installed.
  """
  if not is_remote(text):
    return Path(text)
  if not str(text).startswith("gs://"):
    raise ConfigError(f"{text}: expected a path of this machine, or gs://BUCKET/PATH")
  try:
    _prepare_buckets()
  except ConfigError as error:
    raise ConfigError(f"{text}: {error}") from error
  from etils import epath

  return epath.Path(text)  # type: ignore[return-value]


@functools.cache
def _prepare_buckets() -> None:
  """Imports what reads and writes buckets: gcsfs for etils, google.cloud.storage for orbax.

  Raises:
    ConfigError: one of them is not installed.
  """
  optional("gcsfs", "gcs")
  optional("google.cloud.storage", "gcs")
  from fsspec.config import conf

  # What tensorstore and other processes write is not in a list that was kept.
  conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)


def absolute(path: AnyPath) -> AnyPath:
  """Returns a path that does not depend on the working directory."""
  return path if is_remote(path) else path.absolute()


def storage_errors() -> tuple[type[Exception], ...]:
  """Returns what reading and writing files raises: OSError, and of buckets their clients' too."""
  if "gcsfs" not in sys.modules:
    return (OSError,)
  from aiohttp import ClientError
  from gcsfs.retry import HttpError
  from google.api_core.exceptions import GoogleAPIError
  from google.auth.exceptions import GoogleAuthError

  return OSError, HttpError, GoogleAPIError, GoogleAuthError, ClientError


def storage_reason(error: BaseException) -> str:
  """Returns what a storage error says, in one line, and lets go of what such errors' frames hold.

  A refused upload leaves a view of its buffer there (gcsfs 2026.10.1), and the two are garbage
  together: where the buffer is collected first, Python 3.13.0 complains, and 3.12.1 crashes. Orbax
  keeps the errors of a checkpoint's other files to itself, so all that exist are looked for.
  """
  if "gcsfs" in sys.modules:
    kinds = storage_errors()
    for other in gc.get_objects():
      if issubclass(type(other), kinds):
        traceback.clear_frames(other.__traceback__)
  return getattr(error, "strerror", None) or reason_of(error, 300)


@contextlib.contextmanager
def atomic_write(path: AnyPath, newline: str | None = None) -> Iterator[TextIO]:
  """Opens a text file that gets its name when it is complete and on the disk, or in the bucket.

  After an exception the file that had the name before, if any, is as it was.

  Args:
    path: name of the complete file; its directory exists.
    newline: treatment of line ends, as in `open`.

  Raises:
    DataError: the file can not be written.
  """
  if is_remote(path):
    content = io.BytesIO()
    with io.TextIOWrapper(content, encoding="utf-8", newline=newline) as file:
      yield file
      file.flush()
      _put(path, content.getvalue())
    return
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


def _put(path: AnyPath, content: bytes) -> None:
  """Writes a file into a bucket, which has it whole or not at all.

  Raises:
    DataError: it can not be written.
  """
  try:
    path.write_bytes(content)
  except storage_errors() as error:
    raise DataError(f"{path}: can not be written: {storage_reason(error)}") from error


def write_text(path: AnyPath, text: str) -> None:
  """Writes a text file that is either whole or absent.

  Raises:
    DataError: the file can not be written.
  """
  with atomic_write(path) as file:
    file.write(text)


def write_json(path: AnyPath, value: Any) -> None:
  """Writes indented JSON that is either whole or absent.

  Raises:
    DataError: the file can not be written.
  """
  write_text(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def tsv_writer(path: AnyPath, columns: Sequence[str]) -> Iterator[Callable[[Iterable[Any]], None]]:
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


def files_of(paths: Iterable[Any]) -> Iterator[Any]:
  """Yields files, and those of folders within, in order; of a bucket's folder by one request."""
  for path in paths:
    if is_remote(path):
      from fsspec.core import url_to_fs

      # A folder may hold an empty object of its own name, as consoles make them.
      system, name = url_to_fs(str(path))
      found = (type(path)(f"gs://{n}") for n in system.find(name) if not n.endswith("/"))
      yield from sorted(found, key=lambda file: file.parts)
    elif path.is_dir():
      yield from files_of(sorted(path.iterdir()))
    elif path.exists():
      yield path


def contents_of(paths: Iterable[Any]) -> Iterator[tuple[Any, bytes]]:
  """Yields files as `files_of` does, with what they hold; of a bucket several are read at once."""
  files = list(files_of(paths))
  read = at_once if any(map(is_remote, files)) else map
  yield from zip(files, read(lambda file: file.read_bytes(), files), strict=True)


def at_once(function: Callable[[Any], Any], values: Sequence[Any]) -> Iterator[Any]:
  """Yields the results of a function in order, a few at a time: a bucket takes its time."""
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    for start in range(0, len(values), _AT_ONCE):
      yield from pool.map(function, values[start : start + _AT_ONCE])


def copy_folder(source: AnyPath, target: AnyPath, last: str = "") -> None:
  """Copies the files of a folder, and those within, from or to a bucket.

  Args:
    source: folder; either it or the other is in a bucket.
    target: folder, made if needed.
    last: path in it of a file to copy after all others, which says that all are there.

  Raises:
    DataError: a file can not be read or written.
  """
  from etils import epath

  names = [file.relative_to(source).as_posix() for file in files_of([source])]

  def copy(name: str) -> None:
    if not is_remote(target):
      (target / name).parent.mkdir(parents=True, exist_ok=True)
    epath.Path(source / name).copy(target / name, overwrite=True)

  try:
    list(at_once(copy, [name for name in names if name != last]))
    if last:
      copy(last)
  except storage_errors() as error:
    raise DataError(f"{source} can not be copied to {target}: {storage_reason(error)}") from error


def user_cache() -> Path | None:
  """Returns where commands of one user keep what they may need again; None for nowhere.

  It is ALPHAECOLI_CACHE (empty: nowhere), by default alphaecoli in the user's cache directory.
  """
  told = os.environ.get("ALPHAECOLI_CACHE")
  if told is not None:
    return Path(told) if told else None
  return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "alphaecoli"


def make_folder(path: Path) -> None:
  """Makes a folder, and those above it, where they are missing.

  Raises:
    DataError: it can not be made.
  """
  if str(path).startswith(("gs:/", "s3:/")):  # as pathlib writes it
    raise DataError(f"{path}: in a bucket; expected a folder of this machine")
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
  except (*storage_errors(), ValueError, RecursionError) as error:
    raise DataError(f"{path} is not JSON that can be read: {reason_of(error)}") from error


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a JSON object with the CRC-32 of its content as a further entry."""
  content = {key: entry for key, entry in value.items() if key != CHECKSUM}
  text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
  return {**content, CHECKSUM: f"{zlib.crc32(text.encode()):08x}"}


def is_whole(value: Mapping[str, Any]) -> bool:
  """Returns whether a JSON object that was `sealed` still has that content."""
  return value.get(CHECKSUM) == sealed(value)[CHECKSUM]


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
