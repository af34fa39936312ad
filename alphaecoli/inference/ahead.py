"""Work done in a thread while the caller uses what came before."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
  """The same items; the next one is computed in a thread while the caller uses this one.

  What raises there raises here, at its place in the order. A caller that stops early, or is
  interrupted, does not wait for the item under way.
  """
  source = iter(items)
  thread = ThreadPoolExecutor(1)
  try:
    coming = thread.submit(next, source, _END)
    while (item := coming.result()) is not _END:
      coming = thread.submit(next, source, _END)
      yield item
  finally:
    thread.shutdown(wait=False)
