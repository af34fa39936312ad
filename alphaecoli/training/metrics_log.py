"""What a run writes about itself: log lines, JSON lines, TensorBoard scalars."""

import contextlib
import importlib.util
import json
import math
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alphaecoli.errors import UserError, reason_of
from alphaecoli.files import AnyPath, absolute, copy_folder, is_remote, write_text


class WandbRun:
  """The run of one work directory in Weights & Biases."""

  def __init__(self, project: str, workdir: AnyPath, config: Mapping[str, Any]):
    """Starts the run there, or continues it.

    Args:
      project: name of the project.
      workdir: place of the run's id, and with WANDB_MODE=offline, unless it is in a bucket, of
        its record; names the run.
      config: resolved configuration, to show beside the curves.

    Raises:
      UserError: it can not be started: no login, no network.
    """
    import wandb

    path = workdir / ID_FILE
    if not path.exists():
      write_text(path, uuid.uuid4().hex[:8] + "\n")
    try:
      self._run = wandb.init(
        project=project,
        id=path.read_text(encoding="utf-8").strip(),
        resume="allow",
        name=absolute(workdir).name,
        dir=None if is_remote(workdir) else str(workdir),
        config=dict(config),
      )
    except wandb.Error as error:
      raise UserError(
        f"Weights & Biases did not start: {reason_of(error, 300)}; WANDB_MODE=offline keeps "
        " the record in the work directory, an empty log.wandb does without"
      ) from error

  def write(self, kind: str, step: int, scalars: Mapping[str, float]) -> None:
    """Adds scalars; Weights & Biases ignores those of a step before its newest."""
    self._run.log({f"{kind}/{name}": value for name, value in scalars.items()}, step=step)

  def close(self, failed: bool) -> None:
    """Ends the run there, once everything is sent."""
    self._run.finish(exit_code=int(failed))


class RemoteLines:
  """A text file in a bucket that grows. It is written anew, whole, now and then and at the end."""

  def __init__(self, path: AnyPath, every_s: float = 30.0):
    """Goes on with what the file holds.

    Args:
      path: name of the file.
      every_s: least time between two writes, in seconds.
    """
    self._path, self._every_s, self._written = path, every_s, -math.inf
    self._text = [path.read_text(encoding="utf-8")] if path.exists() else []

  def write(self, text: str) -> bool:
    """Adds text; returns whether the file now has it.

    Raises:
      DataError: the file can not be written.
    """
    self._text.append(text)
    due = time.monotonic() - self._written >= self._every_s
    if due:
      self.close()
    return due

  def close(self) -> None:
    """Writes the file as far as it goes.

    Raises:
      DataError: the file can not be written.
    """
    self._text = ["".join(self._text)]
    write_text(self._path, self._text[0])
    self._written = time.monotonic()


METRICS_FILE = "metrics.jsonl"
KINDS = ("train", "validation")  # of records, in the order in which a step writes them


class MetricsLog:
  """`metrics.jsonl` and TensorBoard scalars in a work directory. Use as a context manager."""

  def __init__(
    self,
    workdir: AnyPath,
    first_step: int,
    tensorboard: bool,
    *,
    tracker: WandbRun | None = None,
    unmeasured: bool = False,
    active: bool = True,
  ):
    """Opens both; what an earlier start wrote and this one will write again is dropped.

    Args:
      workdir: directory of both.
      first_step: number of steps already done.
      tensorboard: whether to write TensorBoard files too.
      tracker: receiver of the same scalars; closes with the log.
      unmeasured: whether the evaluation of `first_step` is still to do.
      active: whether this process writes; the others leave it to one.
    """
    self._file, self._board, self._tracker = None, None, tracker
    if not active:
      return
    path = workdir / METRICS_FILE
    if path.exists():
      _drop_after(path, first_step, "train" if unmeasured else "validation")
    self._file = (
      RemoteLines(path) if is_remote(path) else path.open("a", encoding="utf-8", buffering=1)
    )
    if tensorboard:
      from tensorboardX import SummaryWriter

      # Its own writer for buckets goes on writing when it is collected, for minutes if it can not.
      self._boards = workdir / "tensorboard"
      self._spool = Path(tempfile.mkdtemp()) if is_remote(workdir) else None
      self._board = SummaryWriter(str(self._spool or self._boards), purge_step=first_step + 1)

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    if self._file is not None:
      self._file.close()
    if self._board is not None:
      self._board.close()
      if self._spool is not None:
        copy_folder(self._spool, self._boards)
        shutil.rmtree(self._spool)
    if self._tracker is not None:
      self._tracker.close(failed=error is not None)

  def write(self, kind: str, step: int, scalars: Mapping[str, float]) -> None:
    """Adds one record; values that are not finite become null in the JSON."""
    if self._file is None:
      return
    values = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    written = self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
    if self._board is not None:
      for name, value in scalars.items():
        self._board.add_scalar(f"{kind}/{name}", value, step)
      if written:  # now and then in a bucket, where the whole file is written anew
        self._board.flush()
        if self._spool is not None:
          copy_folder(self._spool, self._boards)
    if self._tracker is not None:
      self._tracker.write(kind, step, scalars)


def _drop_after(path: AnyPath, step: int, kind: str) -> None:
  """Keeps the complete lines up to the record of a kind of a step."""
  kept, last = [], (step, KINDS.index(kind))
  for line in path.read_text(encoding="utf-8").splitlines():
    try:
      record = json.loads(line)
    except ValueError:
      continue  # cut short when the run was killed
    if (record["step"], KINDS.index(record["kind"])) <= last:
      kept.append(line + "\n")
  write_text(path, "".join(kept))


class Stopwatch:
  """Where the time of a run goes, in seconds by phase."""

  def __init__(self) -> None:
    self.started = time.monotonic()
    self.seconds: dict[str, float] = {}

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time within as `name`."""
    start = time.monotonic()
    try:
      yield
    finally:
      self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

  def elapsed(self) -> float:
    """Returns seconds since the start."""
    return time.monotonic() - self.started

  def outside(self, *names: str) -> float:
    """Returns seconds since the start without those of some phases."""
    return self.elapsed() - sum(self.seconds.get(name, 0.0) for name in names)


def duration(seconds: float) -> str:
  """Formats a duration roughly: 45 s, 12 min, 3.4 h."""
  if seconds < 100:
    return f"{seconds:.0f} s"
  if seconds < 6000:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:.1f} h"


def train_line(step: int, steps: int, scalars: Mapping[str, float], speed: str) -> str:
  """Formats one line for the log from the scalars of a step, and a text on its speed."""
  heads = [name for name in scalars if name.startswith("mean_loss/") and "total" not in name]
  parts = ", ".join(f"{name.removeprefix('mean_loss/')} {scalars[name]:.4f}" for name in heads)
  return (
    f"step {step}/{steps}  loss {scalars['mean_loss/total']:.4f} ({parts})  "
    f"rate {scalars['learning_rate']:.2e}  gradient {scalars['grad_norm']:.3g}  "
    f"{scalars['windows_per_s']:.3g} windows/s  {scalars['bases_per_s']:,.0f} bases/s  {speed}  "
    f"{duration(scalars['seconds_left'])} left"
  )


ID_FILE = "wandb_run_id"  # within a work directory; a run that goes on writes to the same one


def check_wandb(project: str) -> None:
  """Checks that the package is there if a project is named.

  Raises:
    UserError: it is not.
  """
  if project and importlib.util.find_spec("wandb") is None:
    raise UserError(
      f"log.wandb={project} needs the package wandb: pip install 'alphaecoli[wandb]', or leave "
      "log.wandb empty"
    )
