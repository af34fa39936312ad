"""Work done in a thread while the caller uses what came before."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
  """The same items; the next one is computed in a thread while the caller uses this one.

  What raises there raises here, at its place in the order.
  """
  source = iter(items)
  with ThreadPoolExecutor(1) as thread:
    coming = thread.submit(next, source, _END)
    while (item := coming.result()) is not _END:
      coming = thread.submit(next, source, _END)
      yield item
