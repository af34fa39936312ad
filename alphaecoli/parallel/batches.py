"""From windows on the host to global arrays on the devices, prefetched by one batch."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from alphaecoli.errors import ConfigError
from alphaecoli.parallel.sharding import batch_sharding, n_window_shards, window_shard
from alphaecoli.schema import BIN_BP, PAIR_BP, Config

T = TypeVar("T")


def check_batch_size(config: Config, mesh: Mesh) -> None:
  """Checks that windows and their positions divide evenly over the devices.

  Raises:
    ConfigError: a micro-batch does not divide over the devices that split windows, or the bins of a
      window over those that split positions.
  """
  window_bp, sequence = config.data.window_bp, mesh.shape["sequence"]
  if window_bp // BIN_BP % sequence:
    unit = math.lcm(PAIR_BP, BIN_BP * sequence)
    lower = max(window_bp // unit, 1) * unit
    raise ConfigError(
      f"data.window_bp={window_bp}: its bins of {BIN_BP} bp do not divide over "
      f"mesh.sequence={sequence} devices; nearest: {lower} or {lower + unit}"
    )
  shards = n_window_shards(mesh)
  parts = shards * config.train.accumulate_steps
  if config.train.batch_windows % parts:
    nearest = max(config.train.batch_windows // parts, 1) * parts
    raise ConfigError(
      f"train.batch_windows={config.train.batch_windows} is not a multiple of mesh.data x "
      f"mesh.fsdp x train.accumulate_steps = {shards} x {config.train.accumulate_steps}; nearest: "
      f"{nearest} or {nearest + parts}"
    )


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
  """Makes global arrays from this process's rows (axis 0); axis 1 counts positions or bins.

  The rows are those of `window_shard`; every position of them is here, needed or not.
  """
  n_shards = window_shard(mesh).count
  return {
    name: jax.make_array_from_process_local_data(
      batch_sharding(mesh, x.ndim, x.ndim > 1), x, (n_shards * x.shape[0], *x.shape[1:])
    )
    for name, x in batch.items()
  }


def abstract_batch(
  batch: Mapping[str, np.ndarray], windows: int, mesh: Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns shapes, types and shardings of a global batch of so many windows, like another one."""
  return {
    name: jax.ShapeDtypeStruct(
      (windows, *x.shape[1:]), x.dtype, sharding=batch_sharding(mesh, x.ndim, x.ndim > 1)
    )
    for name, x in batch.items()
  }


def device_batches(
  batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh
) -> Iterator[dict[str, Array]]:
  """Yields batches on the devices; while a step runs the next one is already on its way."""
  return prefetch(put_batch(batch, mesh) for batch in batches)


def prefetch(items: Iterable[T]) -> Iterator[T]:
  """Yields items, each after the one that follows it has been made.

  JAX does not wait for what it starts: the next item's part is pending on the devices while the
  caller uses this one.
  """
  iterator, end = iter(items), object()
  pending: Any = next(iterator, end)
  while pending is not end:
    item, pending = pending, next(iterator, end)
    yield item
