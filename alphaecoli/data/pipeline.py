"""The stream of batches, with grain: threads prefetch windows from a store.

An element of the grain data set is a whole batch, each window written straight into its row. The
batch of a process is a pure function of (seed, step): so any host can build any batch, the number
of threads changes nothing, and the state of a stream is a number.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

import grain

from alphaecoli.data.windows import (
  check_training_regions,
  count_starts,
  draw_source,
  draw_window,
  open_circle,
  tile_windows,
)
from alphaecoli.errors import ConfigError
from alphaecoli.schema import Config
from alphaecoli.tracks.splits import TRAIN, Region
from alphaecoli.tracks.store import TrackStore, Window

_ENDLESS = 1 << 40  # steps


class Batches(Iterator[Window]):
  """Batches of one process, in order; closing it stops its threads.

  Attributes:
    state: number of batches taken so far, those before `first` included: the index to resume at.
  """

  def __init__(
    self,
    cut: Callable[[int], Window],
    n_batches: int,
    *,
    first: int = 0,
    threads: int = 2,
    prefetch_batches: int = 2,
  ):
    """Starts at batch `first` of `n_batches`.

    Args:
      cut: function from an index to its batch.
      n_batches: number of all batches.
      first: index of the first batch.
      threads: number of threads that cut batches; 0 cuts each batch on request.
      prefetch_batches: number of batches to prefetch; at least one per thread.
    """
    self.state = first
    self._n_batches = n_batches
    options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(threads, prefetch_batches) if threads else 0
    )
    source = grain.MapDataset.source(_BatchSource(cut, first, n_batches - first))
    self._iterator = iter(source.to_iter_dataset(options))
    self._closed = False

  def __iter__(self) -> "Batches":
    return self

  def __next__(self) -> Window:
    if self._closed or self.state >= self._n_batches:
      self.close()
      raise StopIteration
    batch = next(self._iterator)
    self.state += 1
    return batch

  def __len__(self) -> int:
    """Returns the number of batches that are left."""
    return self._n_batches - self.state

  def close(self) -> None:
    """Stops the threads; batches already cut are dropped."""
    if not self._closed:
      self._closed = True
      self._iterator.close()

  def __enter__(self) -> "Batches":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


class _BatchSource:
  """Batches by index, for grain."""

  def __init__(self, cut: Callable[[int], Window], first: int, length: int):
    self._cut, self._first, self._length = cut, first, length

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: SupportsIndex) -> Window:
    return self._cut(self._first + int(index))


class _Source(NamedTuple):
  """A contig that windows are drawn from: its store, its organism's row, its share of windows."""

  store: TrackStore
  organism: int
  regions: tuple[Region, ...]
  share: float


def _sources(
  stores: Sequence[TrackStore], shares: Sequence[float], window_bp: int, split: str
) -> list[_Source]:
  """Lists the contigs that hold a window; each has the share of its possible windows.

  Raises:
    ConfigError: the longest contig of an organism holds no window.
  """
  found = []
  for row, (store, share) in enumerate(zip(stores, shares, strict=True)):
    store.check_window(window_bp)
    check_training_regions(store.regions(split), window_bp)
    regions = [
      open_circle(own.regions(split), window_bp, own.length_bp, own.circular)
      for own in store.replicons
    ]
    starts = [
      count_starts(of_contig, window_bp) * (own.length_bp >= window_bp)
      for own, of_contig in zip(store.replicons, regions, strict=True)
    ]
    found += [
      _Source(own, row, of_contig, share * (n / sum(starts)))
      for own, of_contig, n in zip(store.replicons, regions, starts, strict=True)
      if n
    ]
  return found


def training_batches(
  stores: TrackStore | Sequence[TrackStore],
  *,
  window_bp: int,
  batch_windows: int,
  seed: int,
  reverse_complement: float = 0.5,
  first_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  threads: int = 2,
  prefetch: int = 8,
  split: str = TRAIN,
  shares: Sequence[float] = (1.0,),
) -> Batches:
  """Streams training batches without end: this process's rows of each (docs/data.md).

  Row j of the global batch of step s is window s * batch_windows + j of the seed's stream; process
  p holds rows p * B / P to (p + 1) * B / P. So the global batch is the same for any number of
  processes and threads.

  Args:
    stores: source of windows: one store, or one per organism, with the same tracks. Of several
      contigs in a store each has the share of its possible windows.
    window_bp: length of a window, a multiple of 128.
    batch_windows: number B of windows of a step over all processes.
    seed: seed of the stream.
    reverse_complement: probability of reading the other strand.
    first_step: index of the first batch; the `state` of a stream to resume.
    process_index: index p of this process.
    process_count: number P of processes.
    threads: number of threads that cut batches; 0 for none.
    prefetch: number of windows to prefetch, rounded up to whole batches.
    split: split whose regions windows are drawn from.
    shares: fraction of the windows from each store.

  Raises:
    ConfigError: no region of the longest contig holds a window, or the batch does not divide by P.
  """
  stores = (stores,) if isinstance(stores, TrackStore) else tuple(stores)
  sources = _sources(stores, shares, window_bp, split)
  of_sources = [source.share for source in sources]
  rows = _rows(batch_windows, process_index, process_count)

  def cut(step: int) -> Window:
    batch = stores[0].empty_windows((len(rows),), window_bp)
    for row, j in enumerate(rows):
      index = step * batch_windows + j
      store, organism, where, _ = sources[draw_source(seed, index, of_sources)]
      draw = draw_window(seed, index, where, window_bp, store.length_bp, reverse_complement)
      store.fill(batch, row, draw.start, draw.reverse)
      batch["organism"][row] = organism
    return batch

  batches = -(-prefetch // len(rows))
  return Batches(cut, _ENDLESS, first=first_step, threads=threads, prefetch_batches=batches)


def configured_batches(
  stores: TrackStore | Sequence[TrackStore], config: Config, **options: Any
) -> Batches:
  """Returns the training batches of a configuration; other options are `training_batches`'."""
  data, train = config.data, config.train
  values = {
    "window_bp": data.window_bp,
    "batch_windows": train.batch_windows,
    "seed": train.seed,
    "reverse_complement": data.reverse_complement,
    "threads": data.read_threads,
    "prefetch": data.prefetch,
  }
  return training_batches(stores, **{**values, **options})


def evaluation_batches(
  store: TrackStore,
  split: str,
  *,
  window_bp: int,
  batch_windows: int,
  process_index: int = 0,
  process_count: int = 1,
  threads: int = 2,
  organism: int = 0,
) -> Batches:
  """Streams the windows that tile a split, every base unmasked at most once (docs/data.md).

  Rows after the last window repeat it with everything masked, so that every batch has one shape.

  Args:
    store: source of windows, of its own contig alone.
    split: validation, test or train.
    window_bp: length of a window, a multiple of 128.
    batch_windows: number of windows of a batch over all processes.
    process_index: index of this process; it gets contiguous rows, as in training.
    process_count: number of processes.
    threads: number of threads that cut batches; 0 for none.
    organism: row of the organism embedding for the store.

  Raises:
    ConfigError: a region of the split is shorter than a window, or the batch does not divide.
  """
  store.check_window(window_bp)
  tiles = tile_windows(store.regions(split), window_bp, store.length_bp)
  rows = _rows(batch_windows, process_index, process_count)

  def cut(index: int) -> Window:
    batch = store.empty_windows((len(rows),), window_bp)
    for row, j in enumerate(rows):
      number = index * batch_windows + j
      tile = tiles[min(number, len(tiles) - 1)]
      masked_bp = tile.first_new_bp if number < len(tiles) else window_bp
      store.fill(batch, row, tile.start, False, masked_bp)
    batch["organism"][:] = organism
    return batch

  return Batches(cut, -(-len(tiles) // batch_windows), threads=threads)


def _rows(batch_windows: int, process_index: int, process_count: int) -> range:
  """Returns the rows of a global batch that a process holds.

  Raises:
    ConfigError: the processes can not have equal numbers of rows.
  """
  if batch_windows % process_count:
    lower = batch_windows // process_count * process_count
    near = f"{lower} or {lower + process_count}" if lower else str(process_count)
    raise ConfigError(
      f"batch_windows={batch_windows} is not a multiple of the {process_count} processes; "
      f"nearest: {near}"
    )
  each = batch_windows // process_count
  return range(process_index * each, (process_index + 1) * each)
