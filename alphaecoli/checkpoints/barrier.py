"""Waiting for other processes, for hours if need be."""

import itertools
from collections.abc import Callable
from typing import TypeVar

WORK_TIMEOUT_S = 6 * 3600  # to wait for one process that prepares data
T = TypeVar("T")
_BARRIERS = itertools.count()  # every process passes them in the same order


def one_first(what: str, work: Callable[[], T]) -> T:
  """Has process 0 do something, then the others, who find it done.

  Args:
    what: name of the barrier.
    work: function of every process, quick where its result is already on a shared disk.
  """
  import jax

  if jax.process_count() == 1:
    return work()
  from orbax.checkpoint import multihost

  result = work() if jax.process_index() == 0 else None
  wait = multihost.get_barrier_sync_fn()
  wait(key=f"alphaecoli {what} {next(_BARRIERS)}", timeout_ms=WORK_TIMEOUT_S * 1000)
  return work() if result is None else result
