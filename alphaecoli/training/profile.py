"""An XProf trace of some steps: where their time goes, on the host and on the devices."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax

LOGGER = logging.getLogger("alphaecoli")
PROFILE_DIR = "profile"  # within a work directory

T = TypeVar("T")


class Profiler:
  """Traces steps of this process. A context manager, which ends a trace that is under way."""

  def __init__(self, directory: Path, steps: range | None):
    """Traces nothing yet.

    Args:
      directory: receives plugins/profile/<time>/<host>.xplane.pb.
      steps: those to trace, as numbered in the log; None for none.
    """
    self.directory, self.steps = directory, steps or range(0)
    self._active = False

  def __enter__(self) -> "Profiler":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._active:
      self._stop()

  def call(self, number: int, step: Callable[..., T], *arguments: Any) -> T:
    """Calls a step function; begins and ends the trace with the step's own work."""
    if number in self.steps and not self._active:
      jax.block_until_ready(arguments)
      jax.profiler.start_trace(str(self.directory))
      self._active = True
    with jax.profiler.StepTraceAnnotation("train", step_num=number):
      result = step(*arguments)
    if self._active and number == self.steps[-1]:
      jax.block_until_ready(result)
      self._stop()
    return result

  def _stop(self) -> None:
    self._active = False
    jax.profiler.stop_trace()
    LOGGER.info(
      "trace of steps up to %d in %s; to look at it: pip install xprof; xprof --logdir %s",
      self.steps[-1],
      self.directory,
      self.directory,
    )
