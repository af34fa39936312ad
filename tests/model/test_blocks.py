"""What is computed by parts, in another order or by way of kernels, against the plain form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alphaecoli.model import heads, layers, pair, transformer
from alphaecoli.model.convolutions import UpBlock
from alphaecoli.model.layers import Keys
from tests.model.test_model import TINY, assert_close

B, H, K, V, TIMES = 2, 3, 4, 5, 16


def operands(pairs, dtype=jnp.float32):
  rng, n = np.random.default_rng(0), TIMES * pairs
  shapes = {
    "query": (B, n, H, K),
    "key": (B, n, K),
    "value": (B, n, V),
    "bias": (B, H, pairs, pairs),
  }
  return {name: jnp.asarray(3 * rng.normal(size=s), dtype) for name, s in shapes.items()}


def plain(query, key, value, bias):
  """The published arithmetic, in NumPy's words and float64."""
  query, key, value, bias = (np.asarray(x, np.float64) for x in (query, key, value, bias))
  logits = np.einsum("bqhk,bmk->bhqm", query, key) / np.sqrt(K)
  logits = 5 * np.tanh((logits + np.kron(bias, np.ones((TIMES, TIMES)))) / 5)
  weights = np.exp(logits)
  return np.einsum("bhqm,bmv->bqhv", weights / weights.sum(-1, keepdims=True), value)


def with_gradients(inputs):
  cotangent = np.random.default_rng(1).normal(size=(*inputs["query"].shape[:3], V))

  def loss(inputs):
    y = transformer.attend(**inputs)
    return (y * cotangent).sum(), y

  return jax.jit(jax.grad(loss, has_aux=True))(inputs)


@pytest.mark.parametrize("pairs", [6, 7], ids=["equal parts of 32 bins", "a prime number of rows"])
def test_attention_by_blocks_is_attention(monkeypatch, pairs):
  inputs = operands(pairs)
  want = with_gradients(inputs)
  monkeypatch.setattr(transformer, "WHOLE_BINS", 32)
  monkeypatch.setattr(transformer, "BLOCK_BINS", 32)
  got = with_gradients(inputs)
  np.testing.assert_allclose(got[1], plain(**inputs), rtol=1e-4, atol=1e-5)
  assert_close(got[1], want[1], 1e-6)
  assert_close(got[0], want[0], 1e-5)


def test_gradients_of_blocks_are_summed_in_float32(monkeypatch):
  inputs = operands(32, jnp.bfloat16)
  exact = with_gradients({name: x.astype(jnp.float32) for name, x in inputs.items()})[0]
  whole = with_gradients(inputs)[0]
  monkeypatch.setattr(transformer, "WHOLE_BINS", 16)
  monkeypatch.setattr(transformer, "BLOCK_BINS", 16)
  blocks = with_gradients(inputs)[0]
  assert {x.dtype for x in blocks.values()} == {jnp.dtype("bfloat16")}
  for name, want in exact.items():
    error = [np.abs(np.asarray(x[name], np.float32) - want).mean() for x in (blocks, whole)]
    assert error[0] < 1.2 * error[1], name


def lowered(pairs):
  return jax.jit(jax.grad(lambda x: transformer.attend(**x).sum())).lower(operands(pairs))


def test_windows_of_131_kb_and_less_attend_all_at_once():
  assert "while" not in lowered(131_072 // 2048).as_text()
  assert "while" in lowered(131_072 // 2048 + 1).as_text()


def test_memory_of_attention_is_linear_in_bins():
  """But for the bias of pairs and its gradient, 1 / 256 of the logits."""
  small, large = (
    lowered(pairs).compile().memory_analysis().temp_size_in_bytes for pairs in (128, 256)
  )
  assert large < 2.3 * small


def test_row_attention_by_blocks_is_row_attention(monkeypatch):
  attention = pair.RowAttention(TINY, rngs=Keys(jax.random.key(0)))
  pairs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 12, 4)), jnp.float32)

  @nnx.jit
  def gradients(attention, pairs):
    return nnx.grad(lambda a, x: jnp.square(a(x) - x).sum(), argnums=(0, 1))(attention, pairs)

  want = attention(pairs), gradients(attention, pairs)
  monkeypatch.setattr(pair, "WHOLE_PAIRS", 4)
  monkeypatch.setattr(pair, "BLOCK_ROWS", 3)
  jax.clear_caches()
  got = attention(pairs), gradients(attention, pairs)
  assert_close(got[0], want[0], 1e-6)
  assert_close(jax.tree.leaves(got[1][0]), jax.tree.leaves(want[1][0]), 1e-5)
  assert_close(got[1][1], want[1][1], 1e-5)


def test_tower_of_a_stretch_is_that_of_each_window():
  """Windows of 32 bins with 10 dropped at both ends: each keeps 12, the outer ones also an end."""
  config = dataclasses.replace(TINY, n_layers=2)
  tower = transformer.Tower(16, config, rngs=Keys(jax.random.key(0)))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 56, 16)), jnp.float32)
  run = jax.jit(lambda x: tower(x)[0])
  first, second, third = (np.asarray(run(x[:, start : start + 32])) for start in (0, 12, 24))
  want = np.concatenate([first[:, :22], second[:, 10:22], third[:, 10:]], axis=1)
  assert_close(tower.by_window(x, 32, 10)[0], want, 1e-5)
  assert_close(tower.by_window(x[:, :32], 32, 10)[0], first, 1e-5)


@pytest.mark.parametrize(
  ("rows", "at_most", "parts"),
  [(512, 32, 16), (65, 32, 5), (67, 32, 67), (96, 32, 3), (33, 32, 3), (12, 32, 1)],
)
def test_parts_are_equal_and_small_enough(rows, at_most, parts):
  assert layers.parts_of(rows, at_most) == parts


def squares(values, x, bins):
  y = jnp.tanh(x @ values["kernel"]) + layers.upsample(bins, 4)
  return jnp.square(y).mean(1)


def test_parts_are_summed_and_what_passes_by_has_both_gradients():
  rng = np.random.default_rng(0)
  x, bins, kernel = (
    jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((6, 8, 3), (6, 2, 3), (3, 3))
  )

  def loss(summed):
    def of(values, x, bins):
      passed, total = summed(values, x, bins)
      return (jnp.sin(passed) * total.mean()).sum() + jnp.square(total).sum()

    return jax.value_and_grad(of, argnums=(0, 1, 2))({"kernel": kernel}, x, bins)

  def at_once(values, x, bins):
    return x, squares(values, x, bins).reshape(2, 3, 3).sum(1)

  found = loss(lambda *inputs: heads.sum_parts(squares, 3, *inputs))
  assert_close(jax.tree.leaves(found), jax.tree.leaves(loss(at_once)), 1e-5)


def test_gradient_by_what_passes_by_takes_no_second_array():
  values = {"kernel": jnp.ones((3, 3))}
  x, bins = jnp.ones((16, 4096, 3)), jnp.ones((16, 1024, 3))

  def mapped(x):
    total = layers.map_parts(lambda x, bins: squares(values, x, bins), 16, x, bins, axis=0)
    return x, total.sum()

  def planned(summed):
    def loss(x):
      passed, total = summed(x)
      return layers.map_parts(lambda x: jnp.tanh(x * total.mean()), 16, passed, axis=0).sum()

    plan = jax.jit(jax.grad(loss)).lower(x).compile().memory_analysis()
    return plan.temp_size_in_bytes

  saved = planned(mapped) - planned(lambda x: heads.sum_parts(squares, 16, values, x, bins))
  assert saved > 0.9 * x.nbytes


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_residual_scale_multiplies_what_is_upsampled(dtype):
  """The published order: the block's sum, then the scale; here by way of the kernel."""
  block = UpBlock(12, 8, TINY, rngs=Keys(jax.random.key(0)))
  rng = np.random.default_rng(0)
  x, skip = (jnp.asarray(rng.normal(size=s), dtype) for s in ((2, 16, 12), (2, 32, 8)))
  block.residual_scale[...] = jnp.asarray(1.7)
  block.conv_in.conv.bias[...] = jnp.asarray(rng.normal(size=8), jnp.float32)

  def published(block, x, skip):
    y = block.conv_in(x) + x[..., :8]
    y = layers.upsample(y * block.residual_scale[...].astype(x.dtype), 2) + block.skip(skip)
    return y + block.conv_out(y)

  def both(function):
    return nnx.value_and_grad(lambda *inputs: jnp.square(function(*inputs)).sum(), argnums=(0, 1))(
      block, x, skip
    )

  tolerance = 1e-5 if dtype == jnp.float32 else 0.03
  got, want = (jax.tree.leaves(both(f)) for f in (lambda block, *rest: block(*rest), published))
  assert_close(got, want, tolerance)
