import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, LossWeights, MeshConfig, OptimizerConfig
from alphaecoli.training.optimizer import (
  decayed,
  hidden_matrices,
  learning_rate,
  make_optimizer,
)
from alphaecoli.training.step import StepDefinition
from tests.training.small import TABLE, random_batch, stand_in, tiny_config

CONFIG = OptimizerConfig(
  name="adamw",
  learning_rate=0.1,
  warmup_steps=4,
  final_fraction=0.2,
  weight_decay=0.3,
  beta1=0.9,
  beta2=0.99,
  muon_rms=0.5,
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


def test_clipping_keeps_no_copy_of_the_gradients():
  kernel = jax.ShapeDtypeStruct((256, 1024), jnp.float32)
  params = {f"{i}/kernel": kernel for i in range(8)}
  optimizer = make_optimizer(CONFIG, 12)

  def step(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = jax.eval_shape(optimizer.init, params)
  compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
  plan = compiled.memory_analysis()
  assert plan.temp_size_in_bytes < sum(4 * x.size for x in params.values()) / 2


MUON = dataclasses.replace(CONFIG, name="muon")


def test_muon_moves_the_kernels_between_features_and_adam_the_rest():
  rules = hidden_matrices(FunctionalModel.of_model(tiny_config().model, TABLE).params)
  muon = {name for name, rule in rules.items() if rule == "muon"}
  assert all(name.endswith("/kernel") for name in muon)
  assert {name.split("/")[0] for name in muon} == {
    "encoder", "tower", "decoder", "embed_bins", "embed_one_bp",
  }  # fmt: skip
  adam = {name for name, rule in rules.items() if rule == "adam" and name.endswith("/kernel")}
  assert adam == {
    "encoder/dna_embedder/conv/kernel", *(f"{head}/linear/kernel" for head in HEADS)
  }  # fmt: skip


def test_muon_makes_updates_of_kernels_orthogonal_and_leaves_the_rest_to_adam():
  rng = np.random.default_rng(0)
  shapes = {"tower/a/kernel": (12, 8), "decoder/b/kernel": (5, 4, 8), "tower/a/bias": (8,)}
  params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
  grads = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
  optimizer, adamw = make_optimizer(MUON, 12), make_optimizer(CONFIG, 12)
  found, _ = optimizer.update(grads, optimizer.init(params), params)
  for name in ("tower/a/kernel", "decoder/b/kernel"):
    update = -found[name] / float(learning_rate(CONFIG, 12, 0))
    wide = update.reshape(-1, 8)
    assert np.sqrt(np.mean(np.square(update))) == pytest.approx(0.5, rel=0.2)
    singular = np.linalg.svd(wide, compute_uv=False)
    assert singular.max() / singular.min() < 2
    # Same singular vectors as the gradient: U V', the nearest semi-orthogonal matrix.
    u, _, v = np.linalg.svd(np.asarray(grads[name]).reshape(-1, 8), full_matrices=False)
    assert np.corrcoef(np.ravel(wide), np.ravel(u @ v))[0, 1] > 0.97
  expected, _ = adamw.update(grads, adamw.init(params), params)
  np.testing.assert_allclose(found["tower/a/bias"], expected["tower/a/bias"], rtol=1e-6)


def test_a_step_of_muon_on_a_mesh_is_that_of_one_device():
  config, functional = tiny_config(optimizer__name="muon"), stand_in()
  assert set(hidden_matrices(functional.params).values()) == {"muon", "adam"}
  batch, key = random_batch(config), jax.random.key(0)
  ones = LossWeights(*(1.0 for _ in HEADS))
  ends = []
  for data, fsdp in ((1, 1), (2, 4)):
    mesh = make_mesh(MeshConfig(data, fsdp, 1), jax.devices()[: data * fsdp])
    definition = StepDefinition(functional, make_optimizer(config.optimizer, 8), ones, mesh)
    with jax.set_mesh(mesh):
      state = definition.init_state(0)
      start = jax.device_get(state.params)
      moments = [
        (path[-1].key, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if getattr(path[-1], "key", None) in state.params
      ]
      assert {name for name, _ in moments} == set(state.params)
      assert all(leaf.sharding == state.params[name].sharding for name, leaf in moments)
      end, _ = definition.jit()(state, put_batch(batch, mesh), key)
    ends.append(jax.device_get(end.params))
  for name, value in start.items():
    assert (ends[0][name] != value).any(), name
    np.testing.assert_allclose(ends[1][name], ends[0][name], atol=2e-5, err_msg=name)
