"""How arrays lie on the devices: one mesh, one table of rules.

Parameters name their axes in the metadata `axes`, activations through `constrain`. A rule that
does not divide the array's dimension leaves that dimension whole.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from alphaecoli.errors import ConfigError
from alphaecoli.schema import MeshConfig

MESH_AXES = ("data", "fsdp", "sequence")

# Logical axis -> mesh axes. What is not listed stays whole on every device.
RULES: dict[str, tuple[str, ...]] = {
  "batch": ("data", "fsdp"),  # windows
  "position": ("sequence",),  # along a window: bases, bins, rows of the pair matrix
  "out": ("fsdp",),  # output features of a kernel: parameters and optimiser state
}


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
  """Lays the devices out as data x fsdp x sequence.

  Neighbours on the last axes are close: within a slice or node, and on TPU along its links. Slices
  and nodes, between which the network is slower, split `data` as far as it goes.

  Raises:
    ConfigError: the sizes do not multiply to the number of devices.
  """
  devices = list(jax.devices()) if devices is None else devices
  sizes = [config.data, config.fsdp, config.sequence]
  fixed = math.prod(n for n in sizes if n > 0)
  if sizes.count(-1) > 1:
    raise ConfigError(f"mesh={sizes}: at most one of data, fsdp and sequence may be -1")
  if -1 in sizes:
    sizes[sizes.index(-1)] = max(len(devices) // fixed, 1)
  if math.prod(sizes) != len(devices):
    raise ConfigError(
      f"mesh data={sizes[0]} x fsdp={sizes[1]} x sequence={sizes[2]} needs {math.prod(sizes)} "
      f"devices and there are {len(devices)}; set one of them to -1 to take what is left"
    )
  return Mesh(_arrange(sizes, devices), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def fold_mesh(config: MeshConfig, n_devices: int) -> MeshConfig:
  """Returns the mesh of a run on another number of devices.

  As much of fsdp as divides it, so that each holds no more than it must, then of sequence; data is
  the rest.
  """
  fsdp = math.gcd(n_devices, config.fsdp if config.fsdp > 0 else n_devices)
  left = n_devices // fsdp
  sequence = math.gcd(left, config.sequence if config.sequence > 0 else left)
  return MeshConfig(data=left // sequence, fsdp=fsdp, sequence=sequence)


def _arrange(sizes: list[int], devices: Sequence[Any]) -> np.ndarray:
  """Arranges the devices as an array of data x fsdp x sequence.

  Several TPU slices and several GPU nodes are told apart by `slice_index`; `jax.make_mesh` refuses
  them (docs.jax.dev, jax.experimental.mesh_utils).
  """
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices == 1:
    return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
  outer, left = [], slices  # slices along each axis; all are placed, as their number divides
  for size in sizes:
    outer.append(math.gcd(left, size))
    left //= outer[-1]
  inner = [size // n for size, n in zip(sizes, outer, strict=True)]
  return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)


def n_window_shards(mesh: Mesh | jax.sharding.AbstractMesh) -> int:
  """Returns the number of shards that the windows of a batch are split into."""
  return math.prod(mesh.shape[name] for name in RULES["batch"])


@dataclasses.dataclass(frozen=True)
class WindowShard:
  """The windows of a batch that a process reads.

  Attributes:
    index: number of the shard; processes that hold other positions of the same windows share it.
    count: shards in all.
    first: whether the process is the first of its shard, the one that reports.
  """

  index: int
  count: int
  first: bool


@functools.lru_cache(maxsize=8)
def window_shard(mesh: Mesh) -> WindowShard:
  """Returns the shard of this process: what its devices hold.

  Raises:
    ConfigError: processes hold partly the same windows.
  """
  owners = np.vectorize(lambda device: device.process_index)(mesh.devices)
  return shard_of(owners.reshape(n_window_shards(mesh), -1), jax.process_index())


def shard_of(owners: Int[np.ndarray, "shards positions"], process: int) -> WindowShard:
  """Returns the shard of a process.

  Args:
    owners: process of the device that holds each shard of the windows and of their positions.
    process: index of the process.

  Raises:
    ConfigError: processes hold partly the same windows.
  """
  # The rows of `owners` that each process has a device in: its windows, whichever positions.
  held = {int(p): tuple(np.flatnonzero((owners == p).any(1)).tolist()) for p in np.unique(owners)}
  parts = sorted(set(held.values()))
  if sum(map(len, parts)) != len(owners) or len(set(map(len, parts))) > 1:
    raise ConfigError(
      f"mesh.sequence={owners.shape[1]} cuts across the devices of {len(held)} processes; "
      "expected a divisor or a multiple of the devices of a process"
    )
  first = min(p for p, part in held.items() if part == held[process])
  return WindowShard(parts.index(held[process]), len(parts), first == process)


def _spec(mesh: Any, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> PartitionSpec:
  """Returns the partition of one array, dropping rules that do not divide its dimensions."""
  if len(axes) != len(shape):
    raise ValueError(f"{len(axes)} logical axes {axes} for an array of shape {shape}")
  parts: list[Any] = []
  for size, axis in zip(shape, axes, strict=True):
    names = tuple(n for n in RULES.get(axis or "", ()) if mesh.shape[n] > 1)
    shards = math.prod(mesh.shape[n] for n in names)
    parts.append(names if names and size % shards == 0 else None)
  return PartitionSpec(*parts)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """Pins an activation to the mesh in use (`jax.set_mesh`); without one, returns it unchanged."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, _spec(mesh, x.shape, axes))


def pin(x: jax.Array) -> jax.Array:
  """Pins activations of windows x positions x …; the other axes are whole."""
  return constrain(x, "batch", "position", *(None,) * (x.ndim - 2))


def whole(kernel: jax.Array) -> jax.Array:
  """Gathers a kernel where it is used; what is kept of it stays split.

  Left to itself, XLA sends activations around instead where the kernel is the larger of the two.
  """
  return constrain(kernel, *(None,) * kernel.ndim)


def by_interval(
  local: Callable[..., jax.Array],
  x: jax.Array,
  *kernels: jax.Array,
  reach: tuple[int, int] | None = None,
  multiple: int = 1,
) -> jax.Array:
  """Computes what depends on neighbouring positions, each device for the interval that it holds.

  What lies beyond the interval's ends comes from the devices that hold it. Left to itself, XLA
  computes convolutions over split positions wrongly: in some layouts outputs or gradients are 2 or
  4 times too large (jax 0.10.2 to 0.12.0; findings/jax_sharded_convolution.sh).

  Args:
    local: function of x and the kernels; with `reach`, also of `padding`, the zeros to add before
      and after x. It returns the positions of x in any resolution.
    x: windows x positions x features.
    kernels: arrays that are whole on every device.
    reach: positions before and after each that its result depends on.
    multiple: number that the positions of a device must be a multiple of. Where they are not,
      every device computes all of them.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.shape["sequence"] == 1:
    options: dict[str, Any] = {} if reach is None else {"padding": reach}
    return local(x, *map(whole, kernels), **options)
  devices = mesh.shape["sequence"] if x.shape[1] % (mesh.shape["sequence"] * multiple) == 0 else 1
  spec = _spec(mesh, x.shape, ("batch", "position" if devices > 1 else None, None))

  def of_interval(x: Any, *kernels: Any) -> Any:
    if reach is None:
      return local(x, *kernels)
    x, padding = _with_neighbours(x, reach, devices)
    return local(x, *kernels, padding=padding)

  specs = (spec, *(PartitionSpec() for _ in kernels))
  return jax.shard_map(of_interval, in_specs=specs, out_specs=spec)(x, *kernels)


def _with_neighbours(
  x: jax.Array, reach: tuple[int, int], devices: int
) -> tuple[jax.Array, tuple[int, int]]:
  """Adds what the devices before and after hold to this one's interval; beyond all, zeros.

  Returns:
    The interval and as much of its reach as all devices together have, and the zeros that lack.
  """
  size, parts, lacking = x.shape[1], [x], []
  for side, count in zip((-1, 1), reach, strict=True):
    for away in range(1, min(-(-count // size), devices - 1) + 1):
      length = min(size, count - (away - 1) * size)
      edge = x[:, :length] if side > 0 else x[:, size - length :]
      pairs = [(i + side * away, i) for i in range(devices) if 0 <= i + side * away < devices]
      edge = jax.lax.ppermute(edge, "sequence", pairs)  # zeros where no device sends
      parts = [*parts, edge] if side > 0 else [edge, *parts]
    lacking.append(max(count - (devices - 1) * size, 0))
  return (jnp.concatenate(parts, 1) if len(parts) > 1 else x), (lacking[0], lacking[1])


def variable_shardings(mesh: Mesh, state: Any) -> Any:
  """Returns shardings of a (possibly abstract) nnx.State, from its variables' metadata `axes`."""
  from flax import nnx  # half a second, and prediction by a kept program has no use of it

  def one(variable: nnx.Variable) -> NamedSharding:
    shape = variable.get_value().shape
    axes = variable.get_metadata().get("axes") or (None,) * len(shape)
    return NamedSharding(mesh, _spec(mesh, shape, axes))

  return jax.tree.map(one, state, is_leaf=lambda v: isinstance(v, nnx.Variable))


def batch_sharding(mesh: Mesh, ndim: int, position_axis: bool) -> NamedSharding:
  """Shards one array of a batch: windows over data and fsdp, positions over sequence."""
  parts: list[Any] = [RULES["batch"]] + [None] * (ndim - 1)
  if position_axis and ndim > 1 and mesh.shape["sequence"] > 1:
    parts[1] = RULES["position"]
  return NamedSharding(mesh, PartitionSpec(*parts))
