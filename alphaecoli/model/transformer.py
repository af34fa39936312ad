"""Attention along the sequence: rotary positions, one key and value for all heads, soft cap.

Source: Avsec et al., AlphaGenome (Nature 2026), Supplementary Information, MHABlock, MLPBlock and
AttentionBiasBlock.
"""

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32

from alphaecoli.model.layers import (
  Keys,
  LayerNorm,
  Linear,
  RMSBatchNorm,
  map_parts,
  parts_of,
  run_block,
)
from alphaecoli.model.pair import PairUpdate
from alphaecoli.parallel.sharding import constrain, pin
from alphaecoli.schema import BINS_PER_PAIR, ModelConfig

MAX_POSITION = 8192  # bins in 2 ** 20 bp, the longest published window
LOGIT_CAP = 5.0  # soft cap of attention logits
WHOLE_BINS = 1024  # windows of more bins attend block by block
BLOCK_BINS = 512  # bins that attend at once there, at most


def rotary_frequencies(n: int) -> Float32[Array, "{n}"]:
  """Returns radians per bin of each pair of features, from 1 down to 1 / `MAX_POSITION`.

  Source: AlphaGenome, Supplementary Information, RoPE with linear plus geometric spacing.
  """
  spacing = jnp.geomspace(1, MAX_POSITION - n + 1, n, dtype=jnp.float32)
  return 1 / (jnp.arange(n, dtype=jnp.float32) + spacing)


def rotary(x: Float[Array, "B S H K"]) -> Float[Array, "B S H K"]:
  """Rotates neighbouring pairs of features by an angle that grows with the position.

  Source: Su et al. 2021, arXiv:2104.09864, equation 34 (interleaved pairs).
  """
  positions = jnp.arange(x.shape[1], dtype=jnp.float32)
  angle = positions[None, :, None, None] * rotary_frequencies(x.shape[-1] // 2)[None, None, None]
  even, odd = rearrange(x.astype(jnp.float32), "b s h (k two) -> two b s h k", two=2)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  rotated = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
  return rearrange(rotated, "b s h k two -> b s h (k two)").astype(x.dtype)


class AttentionBias(nnx.Module):
  """Attention bias of every head from the pair activations.

  GELU here is the tanh approximation of `jax.nn.gelu`.
  """

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    self.norm = RMSBatchNorm(config.pair_channels, decay=config.batch_norm_decay, rngs=rngs)
    self.linear = Linear(config.pair_channels, config.n_heads, bias=False, rngs=rngs)

  def __call__(
    self, pair: Float[Array, "B P P F"], *, train: bool = False
  ) -> Float[Array, "B H P P"]:
    bias = self.linear(jax.nn.gelu(self.norm(pair, train=train)))
    return rearrange(bias, "b p q h -> b h p q")


def attend(
  query: Float[Array, "B N H K"],
  key: Float[Array, "B N K"],
  value: Float[Array, "B N V"],
  bias: Float[Array, "B H P P"],
) -> Float[Array, "B N H V"]:
  """Takes the means of values, weighted by the softmax of capped and biased logits.

  Up to `WHOLE_BINS` all logits exist at once. Of longer windows those of `BLOCK_BINS` bins do, so
  that memory is linear in the window's length.

  Args:
    query: queries of every bin and head.
    key: keys of every bin.
    value: values of every bin.
    bias: additions to the logits, each for N / P by N / P bins.
  """
  times = query.shape[1] // bias.shape[2]
  # A matrix product with ones and zeros repeats the columns: on a TPU an array whose last axis is
  # the 16 bins of a pair takes eight times its size.
  columns = jnp.repeat(jnp.eye(bias.shape[3], dtype=bias.dtype), times, axis=1)
  if query.shape[1] <= WHOLE_BINS:
    rows = repeat(bias, "b h p q -> b h (p m) q", m=times)
    logits = jnp.einsum("bqhk,bmk->bhqm", query, key, preferred_element_type=jnp.float32)
    logits = logits / key.shape[-1] ** 0.5 + jnp.matmul(rows, columns, precision="highest")
    weights = _weights(constrain(logits, "batch", "head", "position", "key"))
    return jnp.einsum("bhqm,bmv->bqhv", weights.astype(value.dtype), value)
  # Float32 outside, so that gradients of the blocks are summed in it.
  wide = [constrain(x.astype(jnp.float32), "batch", None, None) for x in (key, value)]

  def block(
    query: Float[Array, "B R M H K"], bias: Float[Array, "B R H P"]
  ) -> Float[Array, "B R M H V"]:
    key, value = (x.astype(query.dtype) for x in wide)
    to_bins = jnp.matmul(bias, columns, precision="highest", preferred_element_type=jnp.float32)
    logits = jnp.einsum("brmhk,bnk->bhrmn", query, key, preferred_element_type=jnp.float32)
    logits = logits / key.shape[-1] ** 0.5 + rearrange(to_bins, "b r h n -> b h r 1 n")
    weights = _weights(constrain(logits, "batch", "head", "position", None, "key"))
    return jnp.einsum("bhrmn,bnv->brmhv", weights.astype(value.dtype), value)

  query = rearrange(query, "b (p m) h k -> b p m h k", m=times)
  parts = parts_of(query.shape[1], max(BLOCK_BINS // times, 1))
  mixed = map_parts(block, parts, query, rearrange(bias, "b h p q -> b p h q"), axis=1)
  return rearrange(mixed, "b p m h v -> b (p m) h v")


def _weights(logits: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
  """Takes the softmax of capped logits."""
  return jax.nn.softmax(LOGIT_CAP * jnp.tanh(logits / LOGIT_CAP), axis=-1)


class MultiQueryAttention(nnx.Module):
  """Attention between bins; norms before and after, keys and values shared by all heads.

  Source: AlphaGenome, Supplementary Information, MHABlock; multi-query attention is Shazeer 2019,
  arXiv:1911.02150.
  """

  def __init__(self, features: int, config: ModelConfig, *, rngs: Keys):
    self.n_heads, decay = config.n_heads, config.batch_norm_decay
    heads_value = config.n_heads * config.value_dim
    self.norm_in = RMSBatchNorm(features, decay=decay, rngs=rngs)
    self.query = Linear(features, config.n_heads * config.key_dim, bias=False, rngs=rngs)
    self.key = Linear(features, config.key_dim, bias=False, rngs=rngs)
    self.value = Linear(features, config.value_dim, bias=False, rngs=rngs)
    self.norm_query = LayerNorm(config.key_dim, centred=True, rngs=rngs)
    self.norm_key = LayerNorm(config.key_dim, centred=True, rngs=rngs)
    self.norm_value = LayerNorm(config.value_dim, centred=True, rngs=rngs)
    self.output = Linear(heads_value, features, rngs=rngs)
    self.norm_out = RMSBatchNorm(features, decay=decay, rngs=rngs)

  def __call__(
    self, x: Float[Array, "B N D"], bias: Float[Array, "B H P P"], *, train: bool = False
  ) -> Float[Array, "B N D"]:
    x = self.norm_in(x, train=train)
    query = rearrange(self.query(x), "b n (h k) -> b n h k", h=self.n_heads)
    query = rotary(self.norm_query(query))
    key = rotary(self.norm_key(self.key(x))[:, :, None])[:, :, 0]
    value = self.norm_value(self.value(x))
    y = attend(query, key, value, bias)
    y = self.output(rearrange(y, "b q h v -> b q (h v)"))
    return self.norm_out(y, train=train)


class MLP(nnx.Module):
  """Two linear maps with a ReLU between; norms before and after.

  Source: AlphaGenome, Supplementary Information, MLPBlock.
  """

  def __init__(self, features: int, config: ModelConfig, *, rngs: Keys):
    hidden, decay = config.mlp_ratio * features, config.batch_norm_decay
    self.norm_in = RMSBatchNorm(features, decay=decay, rngs=rngs)
    self.expand = Linear(features, hidden, rngs=rngs)
    self.contract = Linear(hidden, features, rngs=rngs)
    self.norm_out = RMSBatchNorm(features, decay=decay, rngs=rngs)

  def __call__(self, x: Float[Array, "B N D"], *, train: bool = False) -> Float[Array, "B N D"]:
    y = jax.nn.relu(self.expand(self.norm_in(x, train=train)))
    return self.norm_out(self.contract(y), train=train)


class TransformerLayer(nnx.Module):
  """Pair update (in some layers), attention biased by the pairs, MLP."""

  def __init__(self, features: int, config: ModelConfig, *, update_pair: bool, rngs: Keys):
    self.pair_update = PairUpdate(features, config, rngs=rngs) if update_pair else None
    self.bias = AttentionBias(config, rngs=rngs)
    self.attention = MultiQueryAttention(features, config, rngs=rngs)
    self.mlp = MLP(features, config, rngs=rngs)

  def __call__(
    self, x: Float[Array, "B N D"], pair: Float[Array, "B P P F"], *, train: bool = False
  ) -> tuple[Float[Array, "B N D"], Float[Array, "B P P F"]]:
    if self.pair_update is not None:
      pair = self.pair_update(x, pair)
    x = x + self.attention(x, self.bias(pair, train=train), train=train)
    x = x + self.mlp(x, train=train)
    return pin(x), pair


class Tower(nnx.Module):
  """The layers, one after the other, the pairs starting at zero.

  Fewer bins than one pair has are repeated to fill it.
  """

  def __init__(self, features: int, config: ModelConfig, *, rngs: Keys):
    self.remat, self.pair_channels = config.recomputed, config.pair_channels
    self.layers = nnx.List(
      [
        TransformerLayer(features, config, update_pair=i % config.pair_every == 0, rngs=rngs)
        for i in range(config.n_layers)
      ]
    )

  def __call__(
    self, x: Float[Array, "B N D"], *, train: bool = False
  ) -> tuple[Float[Array, "B N D"], Float[Array, "B P P F"]]:
    n_bins = x.shape[1]
    if n_bins < BINS_PER_PAIR:
      x = jnp.tile(x, (1, BINS_PER_PAIR // n_bins, 1))
    pair = self.empty_pair(x)
    for layer in self.layers:
      x, pair = run_block(layer, x, pair, train=train, remat=self.remat)
    return x[:, :n_bins], pair

  def by_window(
    self, x: Float[Array, "B M D"], window_bins: int, margin_bins: int
  ) -> tuple[Float[Array, "B M D"], Float[Array, "_W P P F"]]:
    """Runs the layers on overlapping windows of a longer sequence.

    Of each window all is kept but the margins, which at the sequence's ends stay, too.

    Args:
      x: bins; those of n windows, each `window_bins - 2 * margin_bins` after the one before.
      window_bins: length of a window.
      margin_bins: bins at both ends of a window that are dropped.

    Returns:
      The bins, and the pair activations of every window.
    """
    kept, end = window_bins - 2 * margin_bins, window_bins - margin_bins
    starts = range(0, x.shape[1] - 2 * margin_bins, kept)
    windows = jnp.stack([x[:, start : start + window_bins] for start in starts], 1)
    y, pair = self(rearrange(windows, "b n m d -> (b n) m d"))
    y = rearrange(y, "(b n) m d -> b n m d", n=len(starts))
    central = rearrange(y[:, :, margin_bins:end], "b n m d -> b (n m) d")
    return pin(jnp.concatenate([y[:, 0, :margin_bins], central, y[:, -1, end:]], 1)), pair

  def empty_pair(self, x: Float[Array, "B N D"]) -> Float[Array, "B P P F"]:
    """Returns the pair activations before the first update."""
    n = x.shape[1] // BINS_PER_PAIR
    return jnp.zeros((x.shape[0], n, n, self.pair_channels), x.dtype)
