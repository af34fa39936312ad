"""The model as a function of windows, compiled once and spread over the devices."""

import functools
import hashlib
import importlib.metadata
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, UInt8

from alphaecoli.genomics.sequence import UNKNOWN
from alphaecoli.parallel.hardware import kept_program
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, MeshConfig
from alphaecoli.tracks.track_table import TrackTable

Key = TypeVar("Key")
# Shape of windows, or of stretches with the length and margin of their windows.
Called = tuple[tuple[int, ...], tuple[int, int] | None]
MOST_WAITING = 16  # batches that may pass while one of windows of another length fills
# By the name that the table of heads uses.
OUTPUTS: dict[str, Callable[[Array], Array]] = {
  "identity": lambda value: value,
  "sigmoid": jax.nn.sigmoid,
}


@runtime_checkable
class Forward(Protocol):
  """The model as a function of windows.

  Attributes:
    n_devices: number that the windows of a batch are a multiple of.
  """

  n_devices: int

  def __call__(self, windows: UInt8[np.ndarray, "B W"], both: bool, /) -> dict[str, Any]:
    """Computes each head: z-scores, genes per bin, probabilities; `both` averages the strands."""

  def stretches(
    self, codes: UInt8[np.ndarray, "B S"], both: bool, tower_bp: tuple[int, int], /
  ) -> dict[str, Any]:
    """Computes the same of several windows at once; `tower_bp` is their length and their margin."""

  def embed(self, windows: UInt8[np.ndarray, "B W"], /) -> dict[str, Any]:
    """Computes the trunk's embeddings: one_bp (B, W, C), bins (B, N, D), pair (B, P, P, F)."""

  def gradient(
    self, bases: Float32[np.ndarray, "B W 4"], weights: dict[str, np.ndarray], both: bool, /
  ) -> Any:
    """Computes the gradient by one-hot bases (B, W, 4) of the weighted sum of outputs."""


def run_batched(
  windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]],
  run: Callable[[UInt8[np.ndarray, "B W"]], dict[str, Any]],
  rows_of: Callable[[int], int],
) -> Iterator[tuple[Key, dict[str, np.ndarray]]]:
  """Runs windows in batches of one shape a length; each yields its rows as float32.

  Windows of one length keep their order. A batch of one length waits until it is full, or
  `MOST_WAITING` batches of others have passed.

  Args:
    windows: keys of windows, of any kind, with their bases.
    run: function from a batch to its outputs.
    rows_of: function from a window's length to the windows in a batch.
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
    filled = np.full((rows_of(length), length), UNKNOWN, np.uint8)
    for row, (_, window) in enumerate(batch):
      filled[row] = window
    in_flight.append(([key for key, _ in batch], run(filled)))

  for key, window in windows:
    length = len(window)
    passed += length
    since[length] = since[length] if length in waiting else passed
    waiting.setdefault(length, []).append((key, window))
    late = [n for n in waiting if passed - since[n] > MOST_WAITING * rows_of(n) * n]
    full = [length] if len(waiting[length]) == rows_of(length) else []
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


def batch_rows(length_bp: int, batch_windows: int, window_bp: int, n_devices: int) -> int:
  """Returns the rows of a batch: as many bases as whole windows have, and a row for each device.

  Args:
    length_bp: length of a row, of a shorter window or of a stretch.
    batch_windows: whole windows in a batch.
    window_bp: length of a whole window.
    n_devices: number that the rows are a multiple of.
  """
  if length_bp <= window_bp:
    return batch_windows * (window_bp // length_bp)
  return max(batch_windows * window_bp // length_bp // n_devices, 1) * n_devices


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


class Programs:
  """The compiled functions of models that differ in their values alone.

  One is compiled at its first call, for one shape of windows. On one CPU those that predict are
  kept in the user's cache, where there is one, and then neither traced nor compiled again.
  """

  def __init__(
    self,
    build: Callable[[Any], Any],
    table: TrackTable,
    devices: Sequence[jax.Device],
    organism: int = 0,
    described: Mapping[str, Any] | None = None,
  ):
    """Compiles nothing yet.

    Args:
      build: function that makes the module from values.
      table: tracks of the model, for the mean of both strands.
      devices: devices over which windows are spread.
      organism: row of the organism embedding.
      described: all of the model that decides its programs; None where it can not be told.
    """
    self.mesh = data_mesh(devices)
    self.everywhere = NamedSharding(self.mesh, PartitionSpec())
    self.by_window = NamedSharding(self.mesh, PartitionSpec("data"))
    self._build, self._table, self._row = build, table, organism
    alone = len(devices) == 1 and devices[0].platform == "cpu"
    self._described, self._device = described if alone else None, devices[0]
    self._kept: dict[tuple[bool, Called], Any] = {}

    def spread(run: Callable[..., Any], inputs: int, static: tuple[int, ...] = ()) -> Any:
      shardings = (self.everywhere, *(self.by_window,) * inputs)
      return jax.jit(
        run, in_shardings=shardings, out_shardings=self.by_window, static_argnums=static
      )

    self._heads = spread(self._outputs, 1, static=(2, 3))
    self.trunk = spread(self._embeddings, 1)
    self.gradients = spread(self._input_gradient, 2, static=(3,))

  def outputs(
    self, values: Any, codes: Array, both: bool, tower_bp: tuple[int, int] | None = None
  ) -> dict[str, Array]:
    """Computes z-scores, genes per bin and probabilities.

    Args:
      values: parameters and running statistics.
      codes: windows, or stretches of windows.
      both: whether to average both strands.
      tower_bp: length and margin of the windows of stretches.
    """
    if self._described is None:
      return self._heads(values, codes, both, tower_bp)
    key = both, (codes.shape, tower_bp)
    if key not in self._kept:
      build = lambda: self._heads.lower(values, codes, both, tower_bp).compile()  # noqa: E731
      self._kept[key] = kept_program({**self._described, "called": key}, self._device, build)
    return self._kept[key](values, codes)

  def abstract(self, called: Iterable[Called]) -> Any:
    """Returns shapes and types of values, where a program for one of these inputs is kept."""
    if self._described is None:
      return None
    for key in itertools.product((False, True), called):
      known = {**self._described, "called": key}
      if program := self._kept.get(key) or kept_program(known, self._device):
        self._kept[key] = program
        break
    else:
      return None
    (values, _), _ = program.args_info
    is_one = lambda x: hasattr(x, "shape")  # noqa: E731
    as_asked = functools.partial(jax.ShapeDtypeStruct, sharding=self.everywhere)
    return jax.tree.map(lambda x: as_asked(x.shape, x.dtype), values, is_leaf=is_one)

  def _outputs(
    self, values: Any, codes: Array, both: bool, tower_bp: tuple[int, int] | None = None
  ) -> dict[str, Array]:
    """Computes z-scores, genes per bin and probabilities; arguments as for `outputs`."""
    from alphaecoli.model.model import mean_of_strands

    def raw(codes: Array) -> dict[str, Array]:
      return self._build(values)(codes, self._organism(codes), tower_bp=tower_bp)

    return _for_users(mean_of_strands(raw, codes, self._table) if both else raw(codes))

  def _embeddings(self, values: Any, codes: Array) -> dict[str, Array]:
    """Computes the trunk's embeddings of windows."""
    found = self._build(values).embed(codes, self._organism(codes))
    return {name: x.astype(jnp.float32) for name, x in found._asdict().items()}

  def _input_gradient(
    self, values: Any, bases: Array, weights: dict[str, Array], both: bool
  ) -> Array:
    """Differentiates the weighted sum of what users get by one-hot bases."""

    def total(x: Array) -> Array:
      outputs = self._outputs(values, x, both)
      return sum((outputs[name] * weight).sum() for name, weight in weights.items())  # type: ignore[return-value]

    return jax.grad(total)(bases)

  def _organism(self, codes: Array) -> Array:
    """Returns the row of the organism embedding, for each window."""
    return jnp.full(len(codes), self._row, jnp.int32)


class CompiledModel:
  """A `Forward` with its parameters on every device and the windows spread over them."""

  def __init__(self, programs: Programs, load: Callable[[], Any]):
    """Takes the programs of models of its kind, and what makes its values when they are needed."""
    self.programs, self._load = programs, load
    self.n_devices = programs.mesh.size

  @classmethod
  def of(
    cls, model: Any, table: TrackTable, devices: Sequence[jax.Device], organism: int = 0
  ) -> "CompiledModel":
    """Wraps a module that is there; arguments as for `Programs`."""
    from flax import nnx

    graph, state = nnx.split(model)
    programs = Programs(functools.partial(nnx.merge, graph), table, devices, organism)
    return cls(programs, lambda: jax.device_put(state, programs.everywhere))

  @functools.cached_property
  def values(self) -> Any:
    """Returns parameters and running statistics.

    Raises:
      DataError: they can not be read.
    """
    return self._load()

  def __call__(
    self,
    windows: UInt8[np.ndarray, "B W"],
    both: bool,
    tower_bp: tuple[int, int] | None = None,
  ) -> dict[str, Any]:
    """Implements `Forward`."""
    with jax.set_mesh(self.programs.mesh):
      placed = jax.device_put(windows, self.programs.by_window)
      return self.programs.outputs(self.values, placed, both, tower_bp)

  stretches = __call__

  def embed(self, windows: UInt8[np.ndarray, "B W"]) -> dict[str, Any]:
    """Implements `Forward`."""
    with jax.set_mesh(self.programs.mesh):
      placed = jax.device_put(windows, self.programs.by_window)
      return self.programs.trunk(self.values, placed)

  def gradient(
    self, bases: Float32[np.ndarray, "B W 4"], weights: dict[str, np.ndarray], both: bool
  ) -> Any:
    """Implements `Forward`."""
    with jax.set_mesh(self.programs.mesh):
      placed = jax.device_put((bases, weights), self.programs.by_window)
      return self.programs.gradients(self.values, *placed, both)


def _for_users(values: Mapping[str, Array]) -> dict[str, Array]:
  """Turns raw outputs into what users get."""
  return {name: OUTPUTS[HEADS[name].output](value) for name, value in values.items()}


@functools.cache
def hash_sources() -> str:
  """Hashes the code that a model's programs are made from."""
  package, here = Path(__file__).parents[1], Path(__file__)
  parts = [*(package / "model").glob("*.py"), package / "parallel" / "sharding.py", here]
  total = hashlib.sha256(importlib.metadata.version("flax").encode())
  for file in sorted([*parts, package / "schema.py"]):
    total.update(file.read_bytes())
  return total.hexdigest()
