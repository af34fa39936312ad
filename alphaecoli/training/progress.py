"""Progress bars, where somebody watches."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

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
  from rich.progress import MofNCompleteColumn

  with _bar("training", MofNCompleteColumn()) as bar:
    task = bar.add_task("", total=total, completed=done)
    yield lambda step: bar.update(task, completed=step)


@contextlib.contextmanager
def reading_bar() -> Iterator[Callable[[str, int, int, int], None] | None]:
  """Shows how far a long file is read, on a terminal.

  Yields:
    Call it with the file's name, bytes read, bytes in all and documents; None where nobody watches.
  """
  if not sys.stderr.isatty():
    yield None
    return
  from rich.progress import DownloadColumn

  with _bar("reading", DownloadColumn()) as bar:
    task = bar.add_task("")

    def show(name: str, done: int, total: int, documents: int) -> None:
      bar.update(task, total=total, completed=done)

    yield show


@contextlib.contextmanager
def _bar(label: str, column: Any) -> Iterator[Any]:
  """A bar on standard error; the log's lines appear above it."""
  from rich.console import Console
  from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

  columns = (TextColumn(label), BarColumn(), column, TimeRemainingColumn())
  bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2)
  with bar:  # it replaces sys.stderr, so that what is written there goes above it
    streams = [h for h in LOGGER.handlers if isinstance(h, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in streams]
    try:
      yield bar
    finally:
      for handler, stream in zip(streams, before, strict=True):
        if stream is not None:
          handler.setStream(stream)
