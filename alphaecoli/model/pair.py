"""The pair stack: activations for every pair of 2,048 bp intervals of a window.

All norms here divide by the root mean square alone (not centred).

Source: Avsec et al., AlphaGenome (Nature 2026), Supplementary Information, PairUpdateBlock,
SequenceToPairBlock, RowAttentionBlock and PairMLPBlock.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int

from alphaecoli.model.layers import (
  Keys,
  LayerNorm,
  Linear,
  map_parts,
  mean_pool,
  parameter,
  parts_of,
)
from alphaecoli.parallel.sharding import pin
from alphaecoli.schema import BINS_PER_PAIR, ModelConfig

MAX_PAIR_DISTANCE = 512  # pair bins in 2 ** 20 bp, the longest published window
WHOLE_PAIRS = 64  # windows of more pair bins attend along the rows of the pair matrix by blocks
BLOCK_ROWS = 32  # rows at once there, at most


def distance_widths(n: int) -> Float32[Array, "{n}"]:
  """Returns the widths, in pair bins, of the distance features: linear plus geometric."""
  geometric = jnp.geomspace(1, MAX_PAIR_DISTANCE - n + 1, n, endpoint=False, dtype=jnp.float32)
  return jnp.arange(n, dtype=jnp.float32) + geometric


def distance_features(distance: Int[Array, "R"], n: int) -> Float32[Array, "R 2*{n}"]:
  """Marks which of n central intervals a signed distance lies in, without and with its sign.

  Source: AlphaGenome, Supplementary Information, central mask features; Borzoi and Enformer
  (Avsec et al. 2021, Methods) call them central_mask.
  """
  inside = (distance_widths(n)[None] > jnp.abs(distance)[:, None]).astype(jnp.float32)
  return jnp.concatenate([inside, jnp.sign(distance)[:, None] * inside], -1)


def relative_shift(x: Float[Array, "*B P 2*P"]) -> Float[Array, "*B P P"]:
  """Turns columns of distances -P..P-1 into columns of positions: y[i, j] = x[i, P + j - i].

  In the flattened matrix row i is the P values from P + i (2P - 1) on: reshaping does it.
  """
  n = x.shape[-2]
  flat = x.reshape(*x.shape[:-2], 2 * n * n)[..., n:]
  return flat.reshape(*x.shape[:-2], n, 2 * n - 1)[..., :n]


class SequenceToPair(nnx.Module):
  """Pair activations from the sequence: dot products of positions, with relative positions.

  a[q, k] = q k + ((q + b_q) pos[k - q] + (k + b_k) pos[q - k]) / 2 for each head, mapped to
  features, plus a map of each of the two positions. No 1/sqrt(features) on the products. GELU is
  the tanh approximation of `jax.nn.gelu`.
  """

  def __init__(self, features: int, config: ModelConfig, *, rngs: Keys):
    self.n_heads, self.n_features = config.pair_heads, config.pair_features
    inner, out = config.pair_heads * config.pair_head_dim, config.pair_channels
    small = nnx.initializers.zeros_init()
    bias_shape, bias_axes = (config.pair_heads, config.pair_head_dim), ("head", "feature")
    self.norm = LayerNorm(features, centred=False, rngs=rngs)
    self.query = Linear(features, inner, bias=False, rngs=rngs)
    self.key = Linear(features, inner, bias=False, rngs=rngs)
    self.position = Linear(2 * config.pair_features, inner, rngs=rngs)
    self.query_bias = parameter(bias_shape, bias_axes, small, rngs)
    self.key_bias = parameter(bias_shape, bias_axes, small, rngs)
    self.row = Linear(features, out, bias=False, rngs=rngs)
    self.column = Linear(features, out, bias=False, rngs=rngs)
    self.output = Linear(config.pair_heads, out, rngs=rngs)

  def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B P P F"]:
    x = self.norm(mean_pool(x, BINS_PER_PAIR))
    n = x.shape[1]
    query = rearrange(self.query(x), "b p (h c) -> b p h c", h=self.n_heads)
    key = rearrange(self.key(x), "b p (h c) -> b p h c", h=self.n_heads)
    distances = distance_features(jnp.arange(-n, n), self.n_features).astype(x.dtype)
    position = rearrange(self.position(distances), "r (h c) -> r h c", h=self.n_heads)
    query_bias, key_bias = (
      b[...].astype(x.dtype)[None, None] for b in (self.query_bias, self.key_bias)
    )
    by_query = relative_shift(jnp.einsum("bqhc,rhc->bhqr", query + query_bias, position))
    by_key = relative_shift(jnp.einsum("bkhc,rhc->bhkr", key + key_bias, position))
    relative = rearrange(by_query, "b h q k -> b q k h") + rearrange(by_key, "b h k q -> b q k h")
    products = jnp.einsum("bqhc,bkhc->bqkh", query, key) + 0.5 * pin(relative)
    active = jax.nn.gelu(x)
    return self.output(products) + self.row(active)[:, :, None] + self.column(active)[:, None]


class RowAttention(nnx.Module):
  """Attention along each row of the pair matrix: one head, no output map."""

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    features = config.pair_channels
    self.norm = LayerNorm(features, centred=False, rngs=rngs)
    self.query = Linear(features, features, bias=False, rngs=rngs)
    self.key = Linear(features, features, bias=False, rngs=rngs)
    self.value = Linear(features, features, rngs=rngs)

  def __call__(self, pair: Float[Array, "B P P F"]) -> Float[Array, "B P P F"]:
    x = self.norm(pair)
    query, key, value = self.query(x), self.key(x), self.value(x)
    if pair.shape[1] > WHOLE_PAIRS:
      parts = parts_of(pair.shape[1], BLOCK_ROWS)
      return map_parts(self._attend, parts, query, key, value, axis=1)
    return self._attend(query, key, value)

  def _attend(
    self,
    query: Float[Array, "B R P F"],
    key: Float[Array, "B R P F"],
    value: Float[Array, "B R P F"],
  ) -> Float[Array, "B R P F"]:
    """Attends along some of the rows, each of them with P * P logits."""
    logits = jnp.einsum("bpqf,bpkf->bpqk", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits / key.shape[-1] ** 0.5, axis=-1)
    return jnp.einsum("bpqk,bpkf->bpqf", weights.astype(value.dtype), value)


class PairMLP(nnx.Module):
  """Norm, then two linear maps with a ReLU between."""

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    features, hidden = config.pair_channels, config.mlp_ratio * config.pair_channels
    self.norm = LayerNorm(features, centred=False, rngs=rngs)
    self.expand = Linear(features, hidden, rngs=rngs)
    self.contract = Linear(hidden, features, rngs=rngs)

  def __call__(self, pair: Float[Array, "B P P F"]) -> Float[Array, "B P P F"]:
    return self.contract(jax.nn.relu(self.expand(self.norm(pair))))


class PairUpdate(nnx.Module):
  """Adds what the sequence says about pairs, then row attention and an MLP."""

  def __init__(self, features: int, config: ModelConfig, *, rngs: Keys):
    self.from_sequence = SequenceToPair(features, config, rngs=rngs)
    self.attention = RowAttention(config, rngs=rngs)
    self.mlp = PairMLP(config, rngs=rngs)

  def __call__(
    self, x: Float[Array, "B N D"], pair: Float[Array, "B P P F"]
  ) -> Float[Array, "B P P F"]:
    pair = pair + self.from_sequence(x)
    pair = pair + self.attention(pair)
    pair = pair + self.mlp(pair)
    return pin(pair)
