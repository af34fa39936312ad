"""A progress bar where somebody watches."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

LOGGER = logging.getLogger("alphaecoli")


@contextlib.contextmanager
def progress_bar(total: int, done: int, active: bool = True) -> Iterator[Callable[[int], None]]:
  """Shows steps done on a terminal; elsewhere does nothing.

  Yields:
    Call it with the number of steps done.
  """
  if not active or not sys.stderr.isatty():
    yield lambda step: None
    return
  from rich.console import Console
  from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

  columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
  bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2)
  with bar:
    # While the bar is up it must draw below the log's lines, so these go through it.
    streams = [h for h in LOGGER.handlers if isinstance(h, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in streams]
    task = bar.add_task("", total=total, completed=done)
    try:
      yield lambda step: bar.update(task, completed=step)
    finally:
      for handler, stream in zip(streams, before, strict=True):
        if stream is not None:
          handler.setStream(stream)
