"""The model as a function of windows, compiled once and spread over the devices."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.sequence import UNKNOWN
from alphaecoli.model.model import AlphaEcoli, mean_of_strands
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, MeshConfig
from alphaecoli.tracks.track_table import TrackTable

Key = TypeVar("Key")
MOST_WAITING = 16  # batches that may pass while one of windows of another length fills
# By the name that the table of heads uses.
OUTPUTS: dict[str, Callable[[Array], Array]] = {
  "identity": lambda value: value,
  "sigmoid": jax.nn.sigmoid,
}


@runtime_checkable
class Forward(Protocol):
  """The model as a function of windows."""

  def __call__(self, windows: UInt8[np.ndarray, "B W"], both: bool, /) -> dict[str, Any]:
    """Computes each head: z-scores, genes per bin, probabilities; `both` averages the strands."""

  def embed(self, windows: UInt8[np.ndarray, "B W"], /) -> dict[str, Any]:
    """Computes the trunk's embeddings: one_bp (B, W, C), bins (B, N, D), pair (B, P, P, F)."""

  def gradient(
    self, bases: Float32[np.ndarray, "B W 4"], weights: dict[str, np.ndarray], both: bool, /
  ) -> Any:
    """Computes the gradient by one-hot bases (B, W, 4) of the weighted sum of outputs."""


def run_batched(
  windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]],
  run: Callable[[UInt8[np.ndarray, "B W"]], dict[str, Any]],
  batch_windows: int,
  window_bp: int,
) -> Iterator[tuple[Key, dict[str, np.ndarray]]]:
  """Runs windows in batches of one size in bases; each yields its rows as float32.

  Windows of one length keep their order. A batch of one length waits until it is full, or
  `MOST_WAITING` batches of others have passed.

  Args:
    windows: keys of windows, of any kind, with their bases.
    run: function from a batch to its outputs.
    batch_windows: whole windows in a batch; of shorter ones it has more.
    window_bp: length of a whole window.
  """
  in_flight: deque[tuple[list[Key], dict[str, Any]]] = deque()
  waiting: dict[int, list[tuple[Key, UInt8[np.ndarray, " W"]]]] = {}
  since: dict[int, int] = {}  # bases that had passed when the first of them came
  passed = 0

  def rows() -> Iterator[tuple[Key, dict[str, np.ndarray]]]:
    keys, outputs = in_flight.popleft()
    host = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    for row, key in enumerate(keys):
      yield key, {name: values[row] for name, values in host.items()}

  def start(length: int) -> None:
    # One shape for every batch, so one compiled program; rows left over are unknown bases.
    batch = waiting.pop(length)
    filled = np.full((batch_windows * (window_bp // length), length), UNKNOWN, np.uint8)
    for row, (_, window) in enumerate(batch):
      filled[row] = window
    in_flight.append(([key for key, _ in batch], run(filled)))

  for key, window in windows:
    length = len(window)
    passed += length
    since[length] = since[length] if length in waiting else passed
    waiting.setdefault(length, []).append((key, window))
    late = [n for n in waiting if passed - since[n] > MOST_WAITING * batch_windows * window_bp]
    full = [length] if len(waiting[length]) == batch_windows * (window_bp // length) else []
    for ready in dict.fromkeys([*late, *full]):
      start(ready)
      # The device computes this batch while the one before is copied out.
      while len(in_flight) > 1:
        yield from rows()
  for length in list(waiting):
    start(length)
    while len(in_flight) > 1:
      yield from rows()
  while in_flight:
    yield from rows()


def gradients(
  forward: Forward,
  batch_windows: int,
  bases: Float32[np.ndarray, "n W 4"],
  weights: Mapping[str, Float32[np.ndarray, "n _R _T"]],
  both_strands: bool,
) -> Float32[np.ndarray, "n W 4"]:
  """Computes `Forward.gradient` of any number of windows, in batches of one shape."""
  found = np.zeros_like(bases)
  for first in range(0, len(bases), batch_windows):
    part = slice(first, first + batch_windows)
    missing = batch_windows - len(bases[part])
    filled, *each = (
      np.pad(array[part], ((0, missing), (0, 0), (0, 0))) for array in (bases, *weights.values())
    )
    batch = forward.gradient(filled, dict(zip(weights, each, strict=True)), both_strands)
    found[part] = np.asarray(batch, np.float32)[: len(found[part])]
  return found


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
  """Makes a mesh of these devices with the data axis alone: each holds all parameters."""
  return make_mesh(MeshConfig(data=-1, fsdp=1, sequence=1), list(devices))


class CompiledModel:
  """A `Forward` with its parameters on every device and the windows spread over them.

  A program is compiled at its first call, for one shape of windows.
  """

  def __init__(
    self, model: AlphaEcoli, table: TrackTable, devices: Sequence[jax.Device], organism: int = 0
  ):
    self._mesh = data_mesh(devices)
    everywhere = NamedSharding(self._mesh, PartitionSpec())
    self._by_window = NamedSharding(self._mesh, PartitionSpec("data"))
    self._graph, state = nnx.split(model)
    self._state = jax.device_put(state, everywhere)
    self._table, self._row = table, organism
    self._heads, self._both_strands, self._trunk = (
      jax.jit(run, in_shardings=(everywhere, self._by_window), out_shardings=self._by_window)
      for run in (self._outputs, self._strand_mean, self._embeddings)
    )
    self._gradients = jax.jit(
      self._input_gradient,
      in_shardings=(everywhere, self._by_window, self._by_window),
      out_shardings=self._by_window,
      static_argnums=3,
    )

  def share_programs(self, others: Iterable["CompiledModel"]) -> None:
    """Takes over the programs of the first of some models that differs in its values alone."""
    for other in others:
      if other._kind() == self._kind():
        self._heads, self._both_strands, self._trunk, self._gradients = (
          other._heads,
          other._both_strands,
          other._trunk,
          other._gradients,
        )
        return

  def _kind(self) -> tuple[Any, ...]:
    """Returns what decides the programs."""
    return self._graph, self._table.reverse_order, self._row, self._mesh

  def __call__(self, windows: UInt8[np.ndarray, "B W"], both: bool) -> dict[str, Any]:
    """Implements `Forward`."""
    return self._run(self._both_strands if both else self._heads, windows)

  def embed(self, windows: UInt8[np.ndarray, "B W"]) -> dict[str, Any]:
    """Implements `Forward`."""
    return self._run(self._trunk, windows)

  def gradient(
    self, bases: Float32[np.ndarray, "B W 4"], weights: dict[str, np.ndarray], both: bool
  ) -> Any:
    """Implements `Forward`."""
    with jax.set_mesh(self._mesh):
      placed = jax.device_put((bases, weights), self._by_window)
      return self._gradients(self._state, *placed, both)

  def _run(self, compiled: Any, windows: UInt8[np.ndarray, "B W"]) -> dict[str, Any]:
    """Calls a compiled function on windows, spread over the devices."""
    with jax.set_mesh(self._mesh):
      return compiled(self._state, jax.device_put(windows, self._by_window))

  def _outputs(self, state: nnx.State, codes: Array) -> dict[str, Array]:
    """Computes z-scores, genes per bin and probabilities of windows."""
    return _for_users(self._raw(state, codes))

  def _strand_mean(self, state: nnx.State, codes: Array) -> dict[str, Array]:
    """Computes the same, averaged over windows and their reverse complements."""
    raw = functools.partial(self._raw, state)
    return _for_users(mean_of_strands(raw, codes, self._table))

  def _raw(self, state: nnx.State, codes: Array) -> dict[str, Array]:
    """Computes raw outputs of windows."""
    return nnx.merge(self._graph, state)(codes, self._organism(codes))

  def _embeddings(self, state: nnx.State, codes: Array) -> dict[str, Array]:
    """Computes the trunk's embeddings of windows."""
    values = nnx.merge(self._graph, state).embed(codes, self._organism(codes))
    return {name: x.astype(jnp.float32) for name, x in values._asdict().items()}

  def _input_gradient(
    self, state: nnx.State, bases: Array, weights: dict[str, Array], both: bool
  ) -> Array:
    """Differentiates the weighted sum of what users get by one-hot bases."""

    def total(x: Array) -> Array:
      outputs = self._strand_mean(state, x) if both else self._outputs(state, x)
      return sum((outputs[name] * weight).sum() for name, weight in weights.items())  # type: ignore[return-value]

    return jax.grad(total)(bases)

  def _organism(self, codes: Array) -> Array:
    """Returns the row of the organism embedding, for each window."""
    return jnp.full(len(codes), self._row, jnp.int32)


def _for_users(values: Mapping[str, Array]) -> dict[str, Array]:
  """Turns raw outputs into what users get."""
  return {name: OUTPUTS[HEADS[name].output](value) for name, value in values.items()}


# Bases in a batch, per device: more gains nothing on two CPU cores.
CPU_BATCH_BP, ACCELERATOR_BATCH_BP = 1 << 15, 1 << 19


def local_devices(device: str | jax.Device | Sequence[jax.Device] | None) -> list[jax.Device]:
  """Finds the devices to predict on.

  Args:
    device: platform such as cpu or gpu, or devices; None for all devices of this process.

  Raises:
    ConfigError: the platform has no device here.
  """
  if device is None:
    return list(jax.local_devices())
  if isinstance(device, str):
    try:
      return list(jax.local_devices(backend=device))
    except RuntimeError as error:
      have = jax.local_devices()[0].platform
      raise ConfigError(f"device={device!r} is not available here; JAX has {have}") from error
  return list(device) if isinstance(device, Sequence) else [device]


def default_batch(window_bp: int, devices: Sequence[jax.Device]) -> int:
  """Chooses the windows at once: enough bases to keep each device busy."""
  busy_bp = CPU_BATCH_BP if devices[0].platform == "cpu" else ACCELERATOR_BATCH_BP
  return max(busy_bp // window_bp, 1) * len(devices)
