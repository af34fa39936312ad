"""Orbax's failures, as one line: its threads report the same fault many times over."""

import contextlib
import gc
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import jax

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
    if not isinstance(unraisable.exc_value, (RuntimeError, RuntimeWarning, *BROKEN)):
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
    except BROKEN as error:
      time.sleep(0.1)  # for the reads under way
      chain: BaseException | None = error
      while chain is not None:  # their frames hold what is left of the reads
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
      gc.collect()
      raise


def one_line(error: BaseException, limit: int = 300) -> str:
  """Returns the start of an error's text, without line breaks."""
  text = " ".join(str(error).split())
  return f"{type(error).__name__}: {text[:limit]}" if text else type(error).__name__
