"""A model apart from its values: flat, named arrays in, a module inside a transformation.

Parameters and running statistics travel through jit, the optimiser and checkpoints as flat
dictionaries, "decoder/up_blocks/0/conv_in/conv/kernel" -> array: quick to pass to a compiled
function, sharded by name, and readable without this package.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding

from alphaecoli.model.model import AlphaEcoli
from alphaecoli.schema import ModelConfig
from alphaecoli.sharding import variable_shardings
from alphaecoli.tracks.table import TrackTable

Values = dict[str, Array]
# Most of the time that initialising takes on a CPU goes into optimising a program that runs once.
_CPU_INIT_OPTIONS = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True)
class Skeleton:
  """A module's structure. Build one with `of` or `of_model`.

  Attributes:
    create: makes the module from a key.
    graph: its structure.
    params: trainable variables by name, abstract.
    stats: every other variable by name, abstract.
  """

  create: Callable[[Array], nnx.Module]
  graph: Any
  params: Mapping[str, nnx.Variable]
  stats: Mapping[str, nnx.Variable]

  @classmethod
  def of(cls, create: Callable[[Array], nnx.Module]) -> "Skeleton":
    """The structure of what `create` makes, without making it."""
    abstract = nnx.eval_shape(lambda: create(jax.random.key(0)))
    graph, params, stats = nnx.split(abstract, nnx.Param, ...)
    return cls(create, graph, _flat(params), _flat(stats))

  @classmethod
  def of_model(cls, config: ModelConfig, table: TrackTable) -> "Skeleton":
    """The structure of AlphaEcoli."""
    return cls.of(lambda key: AlphaEcoli(config, table, rngs=nnx.Rngs(key)))

  def merge(self, params: Mapping[str, Any], stats: Mapping[str, Any]) -> Any:
    """The module with these values, which may be abstract."""
    return nnx.merge(self.graph, _state(self.params, params), _state(self.stats, stats))

  def module(self) -> Any:
    """The abstract module, for what needs only shapes."""
    values = [{n: v.get_value() for n, v in part.items()} for part in (self.params, self.stats)]
    return self.merge(*values)

  def split(self, module: nnx.Module) -> tuple[Values, Values]:
    """The values of a module: parameters and statistics."""
    _, params, stats = nnx.split(module, nnx.Param, ...)
    return _arrays(params), _arrays(stats)

  def shardings(self, mesh: Mesh) -> tuple[dict[str, NamedSharding], dict[str, NamedSharding]]:
    """Where parameters and statistics lie on a mesh."""
    return _shardings(mesh, self.params), _shardings(mesh, self.stats)

  def abstract(self, mesh: Mesh) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shapes, types and shardings of parameters and statistics."""
    return tuple(
      {
        name: jax.ShapeDtypeStruct(v.get_value().shape, v.get_value().dtype, sharding=where[name])
        for name, v in variables.items()
      }
      for variables, where in zip((self.params, self.stats), self.shardings(mesh), strict=True)
    )  # type: ignore[return-value]

  def init(self, seed: int, mesh: Mesh) -> tuple[Values, Values]:
    """Fresh values, each born where it belongs; the same for any number of devices."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    made = jax.jit(
      lambda key: self.split(self.create(key)),
      out_shardings=self.shardings(mesh),
      compiler_options=_CPU_INIT_OPTIONS if on_cpu else None,
    )
    with jax.set_mesh(mesh):
      return made(jax.random.key(seed))


def _name(path: tuple[Any, ...]) -> str:
  """encoder, 0, kernel -> encoder/0/kernel."""
  return "/".join(str(part) for part in path)


def _flat(state: nnx.State) -> dict[str, nnx.Variable]:
  """Variables by name."""
  return {_name(path): variable for path, variable in nnx.to_flat_state(state)}


def _arrays(state: nnx.State) -> Values:
  """Values by name."""
  return {name: variable.get_value() for name, variable in _flat(state).items()}


def _state(abstract: Mapping[str, nnx.Variable], values: Mapping[str, Any]) -> nnx.State:
  """The variables again, with values (or their shapes)."""
  flat: Any = {
    tuple(int(p) if p.isdigit() else p for p in name.split("/")): variable.replace(values[name])
    for name, variable in abstract.items()
  }
  return nnx.from_flat_state(flat)


def _shardings(mesh: Mesh, variables: Mapping[str, nnx.Variable]) -> dict[str, NamedSharding]:
  """Shardings by name."""
  state = _state(variables, {name: v.get_value() for name, v in variables.items()})
  flat = nnx.to_flat_state(variable_shardings(mesh, state))
  return {_name(path): sharding for path, sharding in flat}
