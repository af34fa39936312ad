"""A new head is one entry in the table of heads, and its module."""

import jax
import numpy as np

from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.heads import LinearHead
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, Head, MeshConfig, weights_of
from alphaecoli.training.optimizer import make_optimizer
from alphaecoli.training.step import StepDefinition
from tests.training.small import TABLE, random_batch, tiny_config

CONFIG = tiny_config(train__batch_windows=2)
KERNEL = "made_up/linear/kernel"


class MadeUpHead(LinearHead):
  """Two values a base."""

  def __init__(self, features, table, *, rngs):
    super().__init__(features, 2, 0.0, rngs=rngs)


TABLE_OF_HEADS = {
  **HEADS,
  "made_up": Head(
    name="made_up",
    module="tests.training.test_heads:MadeUpHead",
    resolution_bp=1,
    channels=2,
    loss="squared_error",
    loss_words="mean squared error",
    baseline="none",
  ),
}


def test_a_made_up_head_in_the_table_is_trained_and_leaves_the_others_alone():
  mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
  functional = FunctionalModel.of_model(CONFIG.model, TABLE, TABLE_OF_HEADS)
  weights = weights_of(TABLE_OF_HEADS)(*(1.0 for _ in TABLE_OF_HEADS))
  definition = StepDefinition(functional, make_optimizer(CONFIG.optimizer, 8), weights, mesh)
  batch = random_batch(CONFIG)
  shape = (*batch["sequence"].shape, 2)
  batch |= {"made_up": np.ones(shape, np.float32), "made_up_known": np.ones(shape, bool)}
  with jax.set_mesh(mesh):
    batch = put_batch(batch, mesh)
    state = definition.init_state(0)
    before = jax.device_get(state)
    state, metrics = definition.jit()(state, batch, jax.random.key(1))
  assert float(metrics["loss/made_up"]) > 0 and metrics["known/made_up"] == np.prod(shape)
  assert (np.asarray(state.params[KERNEL]) != before.params[KERNEL]).any()

  without = FunctionalModel.of_model(CONFIG.model, TABLE)

  @jax.jit
  def outputs(params, stats, sequence, organism):
    ours = {name: params[name] for name in without.params}
    models = functional.merge(params, stats), without.merge(ours, stats)
    return [model(sequence, organism) for model in models]

  found, expected = outputs(before.params, before.stats, batch["sequence"], batch["organism"])
  assert found.keys() == TABLE_OF_HEADS.keys() and found["made_up"].shape == shape
  for head, values in expected.items():
    np.testing.assert_allclose(found[head], values, rtol=1e-5, atol=1e-6, err_msg=head)
