"""What a training step changes, and how it comes to be on the devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alphaecoli.model.skeleton import Skeleton, Values
from alphaecoli.training.optimizer import optimizer_shardings


class TrainState(NamedTuple):
  """Everything that a step reads and replaces.

  Attributes:
    step: steps done so far, int32.
    params: parameters by name, frozen ones too.
    stats: running statistics by name, frozen ones too.
    opt_state: the optimiser's, of the parameters that learn.
  """

  step: Array
  params: Values
  stats: Values
  opt_state: Any


def abstract_state(
  skeleton: Skeleton, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
  """Shapes, types and shardings of the state: the target of a restore."""
  params, stats = skeleton.abstract(mesh)
  learning = skeleton.learning(params)
  shapes = jax.eval_shape(optimizer.init, learning)
  opt_state = jax.tree.map(
    lambda shape, where: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where),
    shapes,
    optimizer_shardings(optimizer, learning, mesh),
  )
  step: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec()))
  return TrainState(step, params, stats, opt_state)


def state_shardings(abstract: TrainState) -> TrainState:
  """The shardings of an abstract state."""
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def init_state(
  skeleton: Skeleton, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh
) -> TrainState:
  """A fresh state, each array born where it belongs; the same for any number of devices."""
  return first_state(skeleton, optimizer, *skeleton.init(seed, mesh), mesh)


def first_state(
  skeleton: Skeleton,
  optimizer: optax.GradientTransformation,
  params: Values,
  stats: Values,
  mesh: Mesh,
) -> TrainState:
  """The state before the first step; the optimiser keeps nothing of frozen parameters."""
  where = state_shardings(abstract_state(skeleton, optimizer, mesh))
  init = jax.jit(optimizer.init, out_shardings=where.opt_state)
  step = jax.device_put(jnp.zeros((), jnp.int32), where.step)
  return TrainState(step, params, stats, init(skeleton.learning(params)))
