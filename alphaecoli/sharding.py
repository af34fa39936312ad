"""How arrays lie on the devices: one mesh, one table of rules.

Parameters name their axes in the metadata `axes`, activations through `constrain`. A rule that
does not divide the array's dimension leaves that dimension whole.
"""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alphaecoli.config import MeshConfig
from alphaecoli.errors import ConfigError

MESH_AXES = ("data", "fsdp", "sequence")

# Logical axis -> mesh axes. What is not listed stays whole on every device.
RULES: dict[str, tuple[str, ...]] = {
  "batch": ("data", "fsdp"),  # windows
  "position": ("sequence",),  # 1 bp to 64 bp resolution
  "bin": ("sequence",),  # 128 bp resolution
  "out": ("fsdp",),  # output features of a kernel: parameters and optimiser state
}


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
  """Lays the devices out as data x fsdp x sequence.

  Raises:
    ConfigError: the sizes do not multiply to the number of devices.
  """
  devices = list(jax.devices()) if devices is None else devices
  sizes = [config.data, config.fsdp, config.sequence]
  fixed = int(np.prod([n for n in sizes if n > 0]))
  if sizes.count(-1) > 1:
    raise ConfigError(f"mesh={sizes}: at most one of data, fsdp and sequence may be -1")
  if -1 in sizes:
    sizes[sizes.index(-1)] = max(len(devices) // fixed, 1)
  if int(np.prod(sizes)) != len(devices):
    raise ConfigError(
      f"mesh data={sizes[0]} x fsdp={sizes[1]} x sequence={sizes[2]} needs {int(np.prod(sizes))} "
      f"devices and there are {len(devices)}; set one of them to -1 to take what is left"
    )
  return jax.make_mesh(
    tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices
  )


def _spec(mesh: Any, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> PartitionSpec:
  """The partition of one array, dropping rules that do not divide its dimensions."""
  if len(axes) != len(shape):
    raise ValueError(f"{len(axes)} logical axes {axes} for an array of shape {shape}")
  parts: list[Any] = []
  for size, axis in zip(shape, axes, strict=True):
    names = tuple(n for n in RULES.get(axis or "", ()) if mesh.shape[n] > 1)
    ways = int(np.prod([mesh.shape[n] for n in names]))
    parts.append(names if names and size % ways == 0 else None)
  return PartitionSpec(*parts)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """Pins an activation to the mesh in use (`jax.set_mesh`); without one, returns it unchanged."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, _spec(mesh, x.shape, axes))


def variable_shardings(mesh: Mesh, state: nnx.State) -> nnx.State:
  """The sharding of every variable of a (possibly abstract) state, from its metadata `axes`."""

  def one(variable: nnx.Variable) -> NamedSharding:
    shape = variable.get_value().shape
    axes = variable.get_metadata().get("axes") or (None,) * len(shape)
    return NamedSharding(mesh, _spec(mesh, shape, axes))

  return jax.tree.map(one, state, is_leaf=lambda v: isinstance(v, nnx.Variable))


def batch_sharding(mesh: Mesh, ndim: int, position_axis: bool) -> NamedSharding:
  """How one array of a batch lies: windows over data and fsdp, positions over sequence."""
  parts: list[Any] = [RULES["batch"]] + [None] * (ndim - 1)
  if position_axis and ndim > 1 and mesh.shape["sequence"] > 1:
    parts[1] = RULES["position"]
  return NamedSharding(mesh, PartitionSpec(*parts))
