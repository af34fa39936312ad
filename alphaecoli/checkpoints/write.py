"""Saving the state of a run, and restoring the newest one. See docs/training.md."""

import contextlib
import dataclasses
import itertools
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import multihost
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from alphaecoli.checkpoints.arrays import (
  ARRAYS,
  BROKEN,
  UNWRITTEN,
  check_files,
  mark_copies,
  quiet_threads,
  read_item,
  write_checksums,
)
from alphaecoli.checkpoints.packed import DEFAULT_MEMBERS
from alphaecoli.checkpoints.read import (
  ENSEMBLE_FILE,
  ENSEMBLE_FORMAT,
  ENSEMBLE_VERSION,
  SCORE,
  describe_format,
  find_checkpoint,
  mend_scores,
  read_meta,
)
from alphaecoli.errors import DataError, reason_of
from alphaecoli.files import (
  CHECKSUM,
  AnyPath,
  absolute,
  as_path,
  sealed,
  storage_errors,
  storage_reason,
  write_json,
  write_text,
)
from alphaecoli.parallel.distributed import of_every_process

LOGGER = logging.getLogger(__name__)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a checkpoint held.

  Attributes:
    step: number of steps done.
    items: params, stats and train.
    meta: JSON item.
  """

  step: int
  items: dict[str, Any]
  meta: dict[str, Any]


class _ArraysHandler(ocp.StandardCheckpointHandler):
  """Writes arrays, and the checksums of all files beside them, before the item gets its name.

  One process does the latter, in the background, when the others have written their parts.
  """

  def finalize(self, directory: epath.Path) -> None:
    super().finalize(directory)
    write_checksums(directory)

  @classmethod
  def typestr(cls) -> str:
    return ocp.StandardCheckpointHandler.typestr()  # any reader of orbax's can read it


class _Manager(ocp.CheckpointManager):
  """Saves without asking JAX whether a preemption is due.

  The loop asks, and counts its questions; one with another number would mislead other processes.
  """

  def reached_preemption(self, step: int) -> bool:
    return False


class Checkpoints:
  """The checkpoints of a run, for the process that trains. Use as a context manager."""

  def __init__(self, directory: AnyPath, *, keep_last: int, keep_best: int):
    """Opens or creates the directory; leftovers of saves that were cut short are removed.

    Raises:
      DataError: the directory can not be made or written.
    """
    self.directory = absolute(epath.Path(directory))

    def score_of(metrics: Mapping[str, Any]) -> float:
      return metrics.get(SCORE, math.inf)

    best = BestN(get_metric_fn=score_of, reverse=True, n=keep_best)
    options = ocp.CheckpointManagerOptions(
      best_fn=score_of,  # without it scores are not written
      best_mode="min",
      preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
      cleanup_tmp_directories=True,
    )
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add("meta", ocp.args.JsonSave, ocp.JsonCheckpointHandler())
    for name in ARRAYS:
      handlers.add(name, ocp.args.StandardSave, _ArraysHandler())
    self._quiet = contextlib.ExitStack()
    try:
      mark_copies(self.directory)
      mend_scores(self.directory)
      multihost.sync_global_processes("alphaecoli mended")
      with quiet_threads():  # of _CHECKPOINT_METADATA, in which nothing is needed
        self._manager = _Manager(self.directory, options=options, handler_registry=handlers)
    except storage_errors() as error:
      reason = storage_reason(error)
      raise DataError(f"cannot write checkpoints to {directory}: {reason}") from error

  def __enter__(self) -> "Checkpoints":
    self._quiet.enter_context(quiet_threads())
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    try:
      with self._saving():
        self._manager.close()
    except DataError as fault:
      if error is None:
        raise
      LOGGER.error("%s", fault)  # what ended the run matters more
    finally:
      self._quiet.close()

  @property
  def steps(self) -> list[int]:
    """Returns the steps that have a complete checkpoint, in order."""
    return sorted(self._manager.all_steps())

  def save(
    self, step: int, items: Mapping[str, Any], meta: Mapping[str, Any], score: float | None = None
  ) -> None:
    """Starts a save; returns once the arrays are copied, and writes in the background.

    Raises:
      DataError: this save, or the one before it, could not be written.
    """
    described = sealed({**describe_format(), **meta, "step": step})
    arrays = {name: ocp.args.StandardSave(items[name]) for name in ARRAYS}
    with self._saving():
      self._manager.save(
        step,
        args=ocp.args.Composite(**arrays, meta=ocp.args.JsonSave(described)),
        metrics=sealed({} if score is None else {SCORE: score}),
        force=True,
      )

  def set_score(
    self, step: int, score: float | None, more: Mapping[str, Any] | None = None
  ) -> None:
    """Gives a validation loss to a checkpoint that was saved before it was measured.

    Args:
      step: the checkpoint.
      score: its validation loss.
      more: further entries of its metadata.
    """
    self.wait()
    path = self.directory / str(step)
    if jax.process_index() == 0:
      if more:
        add_metadata(path, more)
      if score is not None:
        write_text(path / "metrics" / "metrics", json.dumps(sealed({SCORE: score})))
    multihost.sync_global_processes(f"alphaecoli score {step}")
    self._manager.reload()

  def wait(self) -> None:
    """Waits until every save is on disk.

    Raises:
      DataError: one could not be written.
    """
    with self._saving():
      self._manager.wait_until_finished()

  @contextlib.contextmanager
  def _saving(self) -> Iterator[None]:
    """Makes one line of what orbax raises where it can not write."""
    try:
      yield
    except (*UNWRITTEN, *storage_errors()) as error:
      reason = storage_reason(error)
      raise DataError(f"a checkpoint in {self.directory} was not saved: {reason}") from error

  def restore_newest(
    self, abstract: Mapping[str, Any], check: Callable[[Mapping[str, Any]], None]
  ) -> Restored | None:
    """Reads the newest checkpoint that is whole, onto the devices that `abstract` names.

    Several processes take the same one: the newest that any of them sees and all of them can read.

    Args:
      abstract: shapes, types and shardings of params, stats and train.
      check: function that takes the meta item before the arrays are read; may refuse it by
        raising ConfigError.

    Returns:
      None where nothing has been saved yet.

    Raises:
      DataError: there are checkpoints, and none can be read.
    """
    passed: list[int] = []
    while (step := self._newest_before(min(passed, default=None))) is not None:
      # No process reads arrays of which another has found a file to be damaged.
      meta = self._all_have(step, self._open(step, check))
      restored = meta and self._all_have(step, self._restore(step, abstract, meta))
      if restored:
        return restored
      passed.append(step)
    if passed:
      raise DataError(
        f"none of the checkpoints {passed[::-1]} in {self.directory} can be read; delete them to "
        "start again, or choose another --workdir"
      )
    return None

  def _newest_before(self, step: int | None) -> int | None:
    """Returns the newest checkpoint older than a step that any process sees."""
    seen = [s for s in self.steps if step is None or s < step]
    newest = max(of_every_process(max(seen, default=-1)))
    return None if newest < 0 else newest

  def _all_have(self, step: int, mine: T | None) -> T | None:
    """Returns what this process has of a checkpoint, None where a process has nothing."""
    blind = [i for i, has in enumerate(of_every_process(mine is not None)) if not has]
    if mine is not None and blind:
      text = "checkpoint %d is passed over: processes that can not read it: %s"
      LOGGER.error(text, step, blind)
    return None if blind else mine

  def _open(self, step: int, check: Callable[[Mapping[str, Any]], None]) -> dict[str, Any] | None:
    """Reads the JSON item and checks this process's part of the files; None if damaged."""
    path = self.directory / str(step)
    with _passing_over(step):
      meta = read_meta(path)
      check(meta)
      check_files(path, meta, ARRAYS, jax.process_index(), jax.process_count())
      return meta
    return None

  def _restore(
    self, step: int, abstract: Mapping[str, Any], meta: dict[str, Any]
  ) -> Restored | None:
    """Reads the arrays of one checkpoint; None where this process can not read it."""
    path = self.directory / str(step)
    with _passing_over(step):
      items = {name: read_item(path / name, abstract[name]) for name in ARRAYS}
      return Restored(step, items, meta)
    return None

  def delete_after(self, step: int) -> None:
    """Removes checkpoints newer than a step: those that `restore_newest` passed over."""
    for newer in [s for s in self.steps if s > step]:
      self._manager.delete(newer)


@contextlib.contextmanager
def _passing_over(step: int) -> Iterator[None]:
  """Logs that a checkpoint can not be read, in place of the error."""
  try:
    yield
  except (DataError, *BROKEN, *storage_errors()) as error:
    LOGGER.error("checkpoint %d is damaged and is passed over: %s", step, reason_of(error))


WORK_TIMEOUT_S = 6 * 3600  # to wait for one process that prepares data
_BARRIERS = itertools.count()  # every process passes them in the same order


def one_first(name: str, work: Callable[[], T]) -> T:
  """Has process 0 do something, then the others, who find it done.

  It is here since JAX offers no public barrier with a timeout of its own, and orbax does.

  Args:
    name: name of the barrier.
    work: function of every process, quick where its result is already on a shared disk.
  """
  if jax.process_count() == 1:
    return work()
  result = work() if jax.process_index() == 0 else None
  wait = multihost.get_barrier_sync_fn()
  wait(key=f"alphaecoli {name} {next(_BARRIERS)}", timeout_ms=WORK_TIMEOUT_S * 1000)
  return work() if result is None else result


def add_metadata(path: Any, more: Mapping[str, Any]) -> None:
  """Adds entries to the JSON item of a checkpoint on disk; raises DataError where it is broken."""
  meta = read_meta(path)
  seal = sealed if CHECKSUM in meta else dict  # one of an earlier version stays one
  write_text(epath.Path(path) / "meta" / "metadata", json.dumps(seal({**meta, **more})))


def write_ensemble(
  folder: AnyPath, runs: Iterable[AnyPath], default_members: int | None = None
) -> None:
  """Names the best checkpoints of runs in a folder as an ensemble; raises DataError without one.

  `default_members` is the most that predict a base unless users say otherwise; None for all.
  """
  members = [as_path(find_checkpoint(run)).relative_to(folder).as_posix() for run in runs]
  described = {"format": ENSEMBLE_FORMAT, "format_version": ENSEMBLE_VERSION, "members": members}
  described |= {} if default_members is None else {DEFAULT_MEMBERS: default_members}
  write_json(folder / ENSEMBLE_FILE, described)
