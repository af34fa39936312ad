"""A model apart from its values: flat, named arrays in, a module inside a transformation.

Parameters and running statistics travel through jit, the optimiser and checkpoints as flat
dictionaries, "decoder/up_blocks/0/conv_in/conv/kernel" -> array: quick to pass to a compiled
function, sharded by name, and readable without this package.

Parts may be frozen, and frozen linear maps may have LoRA factors beside their kernels, which are
added when the module is put together (model/finetuning.py).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding

from alphaecoli.model.finetuning import (
  abstract_factors,
  choose_frozen,
  choose_lora_kernels,
  factor_names,
  fresh_factors,
)
from alphaecoli.model.layers import Keys, RMSBatchNorm
from alphaecoli.model.model import AlphaEcoli, mean_of_strands
from alphaecoli.parallel.sharding import variable_shardings
from alphaecoli.schema import HEADS, Config, Head, InitConfig, ModelConfig
from alphaecoli.tracks.track_table import TrackTable

Values = dict[str, Array]
# Most of the time that initialising takes on a CPU goes into optimising a program that runs once.
_CPU_INIT_OPTIONS = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True)
class FunctionalModel:
  """A module's structure. Build one with `of`, `of_model` or `of_config`.

  Attributes:
    create: function that makes the module from a key.
    graph: graphdef of the module.
    params: parameters by name, abstract.
    stats: every other variable by name, abstract.
    frozen: names of the parameters and statistics that training leaves as they are.
    lora_kernels: names of the kernels with LoRA factors, which are among `params`.
    lora_scale: factor of the factors' product.
    heads: table of the outputs.
  """

  create: Callable[[Array], nnx.Module]
  graph: Any
  params: Mapping[str, nnx.Variable]
  stats: Mapping[str, nnx.Variable]
  frozen: frozenset[str] = frozenset()
  lora_kernels: tuple[str, ...] = ()
  lora_scale: float = 0.0
  heads: Mapping[str, Head] = dataclasses.field(default_factory=lambda: HEADS)

  @classmethod
  def of(cls, create: Callable[[Array], nnx.Module]) -> "FunctionalModel":
    """Returns the structure of what `create` makes, without making it."""
    abstract = nnx.eval_shape(lambda: create(jax.random.key(0)))
    graph, params, stats = nnx.split(abstract, nnx.Param, ...)
    return cls(create, graph, _flat(params), _flat(stats))

  @classmethod
  def of_model(
    cls, config: ModelConfig, table: TrackTable, heads: Mapping[str, Head] = HEADS
  ) -> "FunctionalModel":
    """Returns the structure of AlphaEcoli."""
    made = cls.of(lambda key: AlphaEcoli(config, table, heads, rngs=Keys(key)))
    return dataclasses.replace(made, heads=heads)

  @classmethod
  def of_config(
    cls, config: Config, table: TrackTable, heads: Mapping[str, Head] = HEADS
  ) -> "FunctionalModel":
    """Returns the structure of a run's model, with its frozen parts and LoRA factors.

    Raises:
      ConfigError: see `with_finetuning`.
    """
    return cls.of_model(config.model, table, heads).with_finetuning(config.init)

  def with_finetuning(self, init: InitConfig) -> "FunctionalModel":
    """Returns the model with parts frozen, and LoRA factors beside frozen kernels of its trunk.

    Frozen norms use their running statistics in training too.

    Raises:
      ConfigError: there is no such part, nothing would learn, or no kernel takes factors.
    """
    frozen = choose_frozen(self.params, self.stats, init)
    shapes = {name: self.params[name].get_value().shape for name in frozen & self.params.keys()}
    kernels = choose_lora_kernels(shapes, init)
    factors: dict[str, nnx.Variable] = {}
    for name in kernels:
      factors |= abstract_factors(name, shapes[name], init.lora_rank)
    module = self.module()
    for path, node in nnx.iter_graph(module):
      if isinstance(node, RMSBatchNorm):
        node.frozen = _name((*path, "mean_square")) in frozen
    return dataclasses.replace(
      self,
      graph=nnx.split(module, nnx.Param, ...)[0],
      params={**self.params, **factors},
      frozen=frozen,
      lora_kernels=kernels,
      lora_scale=init.lora_alpha / max(init.lora_rank, 1),
    )

  @property
  def base(self) -> dict[str, nnx.Variable]:
    """Returns the parameters without LoRA factors."""
    factors = {factor for kernel in self.lora_kernels for factor in factor_names(kernel)}
    return {name: v for name, v in self.params.items() if name not in factors}

  def without_factors(self) -> "FunctionalModel":
    """Returns the model for values whose factors are added to their kernels already."""
    return dataclasses.replace(self, params=self.base, lora_kernels=())

  def learning(self, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of some parameters or statistics that are not frozen."""
    return {name: value for name, value in values.items() if name not in self.frozen}

  def merge(self, params: Mapping[str, Any], stats: Mapping[str, Any]) -> Any:
    """Builds the module with these values; factors are added to their kernels."""
    kernels = {}
    for name in self.lora_kernels:
      down, up = (params[factor] for factor in factor_names(name))
      product = jnp.matmul(down, up, precision="highest")
      kernels[name] = params[name] + self.lora_scale * product
    return self._put_together({**params, **kernels}, stats)

  def _put_together(self, params: Mapping[str, Any], stats: Mapping[str, Any]) -> Any:
    """Builds the module with these values, which may be abstract; factors are left out."""
    return nnx.merge(self.graph, _state(self.base, params), _state(self.stats, stats))

  def module(self) -> Any:
    """Builds the abstract module, for what needs only shapes."""
    values = [{n: v.get_value() for n, v in part.items()} for part in (self.params, self.stats)]
    return self._put_together(*values)

  def outputs(
    self,
    params: Mapping[str, Any],
    stats: Mapping[str, Any],
    sequence: Array,
    organism: Array,
    both_strands: TrackTable | None = None,
  ) -> dict[str, Array]:
    """Computes raw outputs with running statistics, of windows or as `mean_of_strands`.

    Args:
      params: parameters.
      stats: running statistics.
      sequence: windows.
      organism: row of the organism embedding, of each.
      both_strands: tracks of the model, for the mean of both strands.
    """
    model = self.merge(params, stats)
    if both_strands is None:
      return model(sequence, organism)
    return mean_of_strands(lambda codes: model(codes, organism), sequence, both_strands)

  def batch_statistics(
    self, params: Values, stats: Values, sequence: Array, organism: Array
  ) -> Values:
    """Computes the statistics of one batch in training, by name; frozen ones are left out."""
    model = self.merge(params, stats)
    for _, node in nnx.iter_graph(model):
      if isinstance(node, RMSBatchNorm):
        node.decay = 0.0  # of the running value nothing is kept
    model(sequence, organism, train=True)
    return self.learning(self.split(model)[1])

  def parameter_table(self) -> str:
    """Formats parameters by part, and how many of them learn where not all do.

    A row a part; nnx.tabulate has one for each of a thousand modules.
    """
    counts: dict[str, list[int]] = {}
    for name, variable in self.params.items():
      size, learns = math.prod(variable.get_value().shape), name not in self.frozen
      count = counts.setdefault(name.split("/")[0], [0, 0, 0])
      count[0] += size
      count[1 if learns else 2] += size
    counts["total"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    columns = ("", "parameters", "learn", "frozen") if self.frozen else ("",)
    width = max(map(len, counts))
    rows = [(part, *(f"{n:,}" for n in count)) for part, count in counts.items()]
    table = [row[: max(len(columns), 2)] for row in ([columns, *rows] if self.frozen else rows)]
    return "\n".join(f"{r[0]:<{width}}  " + "  ".join(f"{c:>13}" for c in r[1:]) for r in table)

  def split(self, module: nnx.Module) -> tuple[Values, Values]:
    """Returns parameters (factors being part of their kernels) and statistics of a module."""
    _, params, stats = nnx.split(module, nnx.Param, ...)
    return _arrays(params), _arrays(stats)

  def shardings(self, mesh: Mesh) -> tuple[dict[str, NamedSharding], dict[str, NamedSharding]]:
    """Returns the shardings of parameters and statistics on a mesh."""
    return _shardings(mesh, self.params), _shardings(mesh, self.stats)

  def abstract(self, mesh: Mesh) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns shapes, types and shardings of parameters and statistics."""
    return tuple(
      {
        name: jax.ShapeDtypeStruct(v.get_value().shape, v.get_value().dtype, sharding=where[name])
        for name, v in variables.items()
      }
      for variables, where in zip((self.params, self.stats), self.shardings(mesh), strict=True)
    )  # type: ignore[return-value]

  def init(self, seed: int, mesh: Mesh) -> tuple[Values, Values]:
    """Makes fresh values, each where it belongs; the same for any number of devices."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"

    def make(key: Array) -> tuple[Values, Values]:
      params, stats = self.split(self.create(key))
      return params | fresh_factors(key, self.lora_kernels, self.params), stats

    made = jax.jit(
      make,
      out_shardings=self.shardings(mesh),
      compiler_options=_CPU_INIT_OPTIONS if on_cpu else None,
    )
    with jax.set_mesh(mesh):
      return made(jax.random.key(seed))


def _name(path: tuple[Any, ...]) -> str:
  """Joins a path: encoder, 0, kernel to encoder/0/kernel."""
  return "/".join(str(part) for part in path)


def _flat(state: nnx.State) -> dict[str, nnx.Variable]:
  """Returns variables by name."""
  return {_name(path): variable for path, variable in nnx.to_flat_state(state)}


def _arrays(state: nnx.State) -> Values:
  """Returns values by name."""
  return {name: variable.get_value() for name, variable in _flat(state).items()}


def _state(abstract: Mapping[str, nnx.Variable], values: Mapping[str, Any]) -> nnx.State:
  """Returns the variables with values, or with shapes in their place."""
  flat: Any = {
    tuple(int(p) if p.isdigit() else p for p in name.split("/")): variable.replace(values[name])
    for name, variable in abstract.items()
  }
  return nnx.from_flat_state(flat)


def _shardings(mesh: Mesh, variables: Mapping[str, nnx.Variable]) -> dict[str, NamedSharding]:
  """Returns shardings by name."""
  state = _state(variables, {name: v.get_value() for name, v in variables.items()})
  flat = nnx.to_flat_state(variable_shardings(mesh, state))
  return {_name(path): sharding for path, sharding in flat}
