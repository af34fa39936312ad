import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphaecoli.model.functional import FunctionalModel
from alphaecoli.schema import OptimizerConfig
from alphaecoli.training.optimizer import decayed, learning_rate, make_optimizer
from tests.training.small import TABLE, tiny_config

CONFIG = OptimizerConfig(
  learning_rate=0.1,
  warmup_steps=4,
  final_fraction=0.2,
  weight_decay=0.3,
  beta1=0.9,
  beta2=0.99,
  clip_norm=1e9,
)


def test_learning_rate_rises_linearly_then_falls_as_a_cosine():
  rates = [float(learning_rate(CONFIG, 12, step)) for step in range(14)]
  rising = [0.025, 0.05, 0.075, 0.1]
  angles = np.pi * np.arange(1, 9) / 8
  falling = 0.1 * (0.2 + 0.8 * (1 + np.cos(angles)) / 2)
  np.testing.assert_allclose(rates, [*rising, *falling, 0.02, 0.02], rtol=1e-5)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 10), (10, 10), (100, 10)])
def test_learning_rate_is_positive_and_at_most_its_peak(warmup, steps):
  config = dataclasses.replace(CONFIG, warmup_steps=warmup)
  rates = [float(learning_rate(config, steps, step)) for step in range(steps)]
  assert all(0 < rate <= 0.1 * (1 + 1e-6) for rate in rates)


def test_weight_decay_pulls_kernels_and_embeddings_of_the_real_model_alone():
  params = FunctionalModel.of_model(tiny_config().model, TABLE).params
  chosen = decayed(params)
  kinds = {name.rsplit("/", 1)[-1] for name, yes in chosen.items() if yes}
  left = {name.rsplit("/", 1)[-1] for name, yes in chosen.items() if not yes}
  assert kinds == {"kernel", "table"}
  assert left == {
    "bias", "scale", "offset", "residual_scale", "query_bias", "key_bias",
  }  # fmt: skip
  assert not any("/norm" in name for name, yes in chosen.items() if yes)


def test_without_gradient_only_decayed_parameters_shrink():
  params = {"a/kernel": jnp.ones((2, 2)), "a/bias": jnp.ones(2), "norm/scale": jnp.ones(2)}
  optimizer = make_optimizer(CONFIG, 12)
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  np.testing.assert_allclose(updates["a/kernel"], -0.025 * 0.3, rtol=1e-6)
  assert not updates["a/bias"].any() and not updates["norm/scale"].any()


def test_updates_are_those_of_adamw_on_clipped_gradients():
  params = {"a/kernel": jnp.arange(4.0).reshape(2, 2), "a/bias": jnp.ones(2)}
  grads = {"a/kernel": jnp.full((2, 2), 3.0), "a/bias": jnp.array([4.0, -4.0])}
  optimizer = make_optimizer(dataclasses.replace(CONFIG, clip_norm=0.5), 12)
  norm = np.sqrt(4 * 9 + 2 * 16)
  clipped = jax.tree.map(lambda g: g * 0.5 / norm, grads)
  reference = optax.adamw(
    0.025, 0.9, 0.99, weight_decay=0.3, mask={"a/kernel": True, "a/bias": False}
  )
  found, _ = optimizer.update(grads, optimizer.init(params), params)
  expected, _ = reference.update(clipped, reference.init(params), params)
  for name in params:
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
