"""Signals that ask a run to stop: it saves first."""

import signal
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

# Exit status of a run that was asked to stop and has saved: EX_TEMPFAIL of sysexits.h, "try again
# later". A scheduler that runs the same command again continues the run.
EXIT_STOPPED = 75


class Interruption:
  """Remembers SIGTERM and SIGINT while active; a second one acts at once. A context manager."""

  def __init__(self) -> None:
    self.signal_name = ""
    self._asked = 0
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "Interruption":
    # With several processes jax's own handler turns SIGTERM into a step that all agree on.
    watched = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else (signal.SIGINT,)
    for number in watched:
      self._previous[number] = signal.signal(number, self._remember)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._restore()

  def _restore(self) -> None:
    """Gives the signals back their handlers of before."""
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous.clear()

  def _remember(self, number: int, frame: FrameType | None) -> None:
    """Handles the first signal; the next one finds the handlers of before."""
    self.signal_name = signal.Signals(number).name
    self._restore()
    if jax.process_count() > 1:
      signal.raise_signal(signal.SIGTERM)  # to jax's handler, which tells the other processes

  def requested(self) -> bool:
    """Returns whether to stop here. Every process asks at the same places and gets the same answer.

    Several processes stop at the same question, the first that none of them has asked yet.
    """
    if jax.process_count() == 1:
      return bool(self.signal_name)
    self._asked += 1
    if not multihost_utils.reached_preemption_sync_point(self._asked):
      return False
    self.signal_name = self.signal_name or "a preemption notice"
    return True
