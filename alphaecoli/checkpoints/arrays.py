"""Arrays of a checkpoint: checksums, whether all are there, reading, and its failures as one line.

Orbax's threads report the same fault many times over.
"""

import contextlib
import gc
import json
import logging
import sys
import time
import traceback
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from alphaecoli.errors import DataError, reason_of
from alphaecoli.files import (
  CHECKSUM,
  AnyPath,
  absolute,
  at_once,
  files_of,
  is_remote,
  is_whole,
  sealed,
  storage_errors,
  write_text,
)

Tree = Mapping[str, Mapping[str, Any]]  # parameters as published: by haiku's module and name

LOGGER = logging.getLogger(__name__)
ARRAYS = ("params", "stats", "train")  # items
CHECKSUMS = "checksums.json"  # in each of them: {"crc32": {file: [bytes, checksum]}}
RUN_FILE = "run.json"  # in a work directory, from the first start on
COMMITTED = "commit_success.txt"  # in a checkpoint in a bucket, and in its items: it is complete
_BLOCK_BYTES = 1 << 22
# What orbax raises on files that are missing, cut short or altered.
BROKEN = (ValueError, KeyError, TypeError, OSError, jax.errors.JaxRuntimeError)
UNWRITTEN = (ValueError, OSError, jax.errors.JaxRuntimeError)  # and where it can not write


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
  """Keeps the reading and writing threads from printing tracebacks of an error that is raised too.

  Arrays are read and written at once. The first that fails raises; what the others then meet (a
  closed event loop, a result that nobody collects) comes up in tensorstore's own threads. No
  Python code calls those, so that only the interpreter's hooks see it: with the loggers alone, one
  damaged array prints dozens of tracebacks.
  """
  hook, print_error = sys.unraisablehook, sys.excepthook
  loggers = {name: logging.getLogger(name) for name in ("asyncio", "absl")}
  levels = {name: logger.level for name, logger in loggers.items()}

  def report(unraisable: Any) -> None:
    error = unraisable.exc_value
    if type(error) is not Exception and not isinstance(
      error, (RuntimeError, RuntimeWarning, *BROKEN)
    ):
      hook(unraisable)

  def report_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if "Event loop is closed" not in str(error):
      print_error(kind, error, trace)

  sys.unraisablehook, sys.excepthook = report, report_uncaught
  for logger in loggers.values():
    logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    sys.unraisablehook, sys.excepthook = hook, print_error
    for name, logger in loggers.items():
      logger.setLevel(levels[name])


@contextlib.contextmanager
def clear_after_error() -> Iterator[None]:
  """Keeps the threads of one read quiet, and clears away what is left of it if it fails."""
  with quiet_threads():
    try:
      yield
    except Exception as error:  # cleared away and raised again, whatever it is
      time.sleep(0.1)  # for the reads under way
      chain: BaseException | None = error
      while chain is not None:  # their frames hold what is left of the reads
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
      gc.collect()
      if type(error) is Exception:  # what orbax 0.12 makes of any fault in reading an array
        raise OSError(reason_of(error.__cause__ or error)) from error
      raise


def read_item(path: Any, abstract: Any) -> Any:
  """Reads the arrays of one item that this process holds, onto the devices that `abstract` names.

  Each process reads for itself: none waits for another, which may have failed.
  """
  import orbax.checkpoint as ocp  # half a second, and models for prediction alone have no use of it

  index = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process {index}"
  )
  with (
    clear_after_error(),
    ocp.StandardCheckpointer(multiprocessing_options=alone) as reader,
  ):
    return reader.restore(absolute(epath.Path(path)), abstract)


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
  found = at_once(checksum_file, [folder / name for name in names])
  return dict(zip(names, found, strict=True))


def write_checksums(item: epath.Path) -> None:
  """Writes the checksums of all files of an item."""
  names = [str(file.relative_to(item)) for file in files_of([item])]
  write_text(item / CHECKSUMS, json.dumps(sealed({"crc32": checksum_files(item, names)})))


def check_files(
  path: Any, meta: Mapping[str, Any], items: Iterable[str], part: int = 0, parts: int = 1
) -> bool:
  """Compares the files of arrays with their checksums.

  A checkpoint from before there were any passes, which is said.

  Args:
    path: directory of the checkpoint.
    meta: its JSON item.
    items: names of the items to check.
    part: number of the part to check, of parts of about the same size.
    parts: number of the parts.

  Returns:
    Whether it has checksums.

  Raises:
    DataError: a file is missing, cut or altered.
  """
  root = epath.Path(path)
  expected: dict[str, tuple[int, str]] = {}
  for item in items:
    file = root / item / CHECKSUMS
    if CHECKSUM in meta or file.exists():
      try:
        listed = json.loads(file.read_text())
        if not is_whole(listed):
          raise ValueError("another checksum")
        files = listed["crc32"].items()
        expected |= {f"{item}/{name}": (int(n), str(value)) for name, (n, value) in files}
      except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: missing or broken") from error
  if CHECKSUM not in meta:
    if expected:
      raise DataError(f"{root / 'meta' / 'metadata'}: its checksum is missing")
    LOGGER.info("%s is from before there were checksums: its arrays are read unchecked", root)
    return False
  names = sorted(expected, key=lambda name: (-expected[name][0], name))[part::parts]
  try:
    found = checksum_files(root, names)
  except storage_errors() as error:
    where, why = getattr(error, "filename", None) or root, getattr(error, "strerror", None) or error
    raise DataError(f"{where}: can not be read: {why}") from error
  for name in names:
    if found[name][0] != expected[name][0]:
      sizes = f"{found[name][0]:,} bytes, expected {expected[name][0]:,}"
      raise DataError(f"{root / name}: {sizes}")
    if found[name] != expected[name]:
      raise DataError(f"{root / name}: not what was written (another checksum)")
  return True


def is_complete(path: Any) -> bool:
  """Returns whether the directory of a step holds all of a checkpoint, which on a disk it does.

  In a bucket, which has no renames, a checkpoint that is being written has its name already. Orbax
  adds COMMITTED to it last; a copy of one from a disk is known by its files. One for prediction
  alone has no `train`, and lies in no run.
  """
  root = epath.Path(path)
  if not is_remote(root) or (root / COMMITTED).exists():
    return True
  items = ARRAYS if (root.parent.parent / RUN_FILE).exists() else ARRAYS[:2]
  files = ("meta/metadata", *(f"{name}/{CHECKSUMS}" for name in items))
  return all((root / name).exists() for name in files)


def mark_copies(directory: epath.Path) -> None:
  """Marks complete checkpoints that were copied into a bucket as orbax marks those it writes there.

  It would take them for leftovers of saves that were cut short, and delete them.
  """
  if is_remote(directory) and jax.process_index() == 0 and directory.is_dir():
    for step in (path for path in directory.iterdir() if path.name.isdigit()):
      if is_complete(step) and not (step / COMMITTED).exists():
        LOGGER.info("%s is a copy: marked as complete", step)
        for folder in (*(item for item in step.iterdir() if item.is_dir()), step):
          write_text(folder / COMMITTED, f"Checkpoint commit was successful to {folder}")


def read_published(root: AnyPath) -> tuple[Tree, Tree]:
  """Reads parameters and running statistics of the published checkpoint, as arrays of the host.

  It is what orbax's StandardCheckpointer writes of haiku's (params, state). Source:
  google-deepmind/alphagenome_research, model/dna_model.py, create.

  Raises:
    DataError: it can not be read, or holds something else.
  """
  import orbax.checkpoint as ocp

  try:
    with clear_after_error(), ocp.PyTreeCheckpointer() as reader:
      described = reader.metadata(absolute(root)).item_metadata
      if described is None:
        raise DataError(f"{root} can not be read: its _METADATA is broken; download it again")
      # On the host: the devices that the file names are those it was written on.
      host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), described.tree)
      tree = reader.restore(absolute(root), restore_args=host)
  except BROKEN as error:
    raise DataError(f"{root} can not be read: {reason_of(error)}") from error
  if not isinstance(tree, list | tuple) or len(tree) != 2:
    raise DataError(
      f"{root} is an orbax checkpoint of something else; expected AlphaGenome's (parameters, "
      "state), or a checkpoint of alphaecoli"
    )
  return tree[0], tree[1]
