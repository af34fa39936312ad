"""The model as the evaluation during training calls it: current parameters, a batch of windows."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from alphaecoli.model.skeleton import Skeleton, Values
from alphaecoli.sharding import batch_sharding
from alphaecoli.training.batches import put_batch

# Parameters, statistics and this process's windows -> raw outputs of the global batch.
Predict = Callable[[Values, Values, Mapping[str, np.ndarray]], dict[str, Array]]


def make_predict(skeleton: Skeleton, mesh: Mesh) -> Predict:
  """Compiles the forward pass with running statistics. Call the result within set_mesh."""

  # Whole windows in one place: a process reads its own from its devices.
  @functools.partial(jax.jit, out_shardings=batch_sharding(mesh, 1, False))
  def forward(params: Values, stats: Values, sequence: Array, organism: Array) -> dict[str, Any]:
    return skeleton.merge(params, stats)(sequence, organism)

  def predict(params: Values, stats: Values, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    inputs = put_batch({name: batch[name] for name in ("sequence", "organism")}, mesh)
    return forward(params, stats, inputs["sequence"], inputs["organism"])

  return predict
