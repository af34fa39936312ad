"""Heads on the embeddings, with raw outputs in float32, and the embedders that feed them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int, Key

from alphaecoli.model.layers import (
  Keys,
  LayerNorm,
  Linear,
  OrganismEmbedding,
  RMSBatchNorm,
  as_window,
  deal,
  gelu,
  join,
  upsample,
)
from alphaecoli.schema import BIN_BP, MIN_PREVALENCE, ModelConfig
from alphaecoli.tracks.track_table import TrackTable

STRUCTURE_LOGIT = -1.8  # a codon position of a strand holds at about one base in seven


def dropout(
  x: Float[Array, "B S C"], rate: float, key: Key[Array, "*K"] | None, of: str = "base"
) -> Float[Array, "B S C"]:
  """Zeroes a fraction `rate` of the values and scales up the others; no key, no dropout.

  Args:
    x: windows, positions, features.
    rate: fraction.
    key: random key, or one of each window.
    of: "base" for each value by itself, or "window" for a feature of a whole window, which needs
      next to no random numbers (Tompson et al. 2015, arXiv:1411.4280, section 3.2).
  """
  if key is None or rate == 0:
    return x
  shape = x.shape if of == "base" else (len(x), 1, x.shape[2])
  draw = functools.partial(jax.random.bernoulli, p=1 - rate)
  keep = jax.vmap(lambda k: draw(k, shape=shape[1:]))(key) if key.ndim else draw(key, shape=shape)
  return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


# A head is built as Class(features, table, rngs=rngs); its name is the head's in camel case, and
# "Head". What turns its output into what users get is in the table of heads (schema.py).
class LinearHead(nnx.Module):
  """A linear map of an embedding, Xavier-uniform; sums and output are float32."""

  def __init__(self, features: int, n_out: int, bias: float, *, rngs: Keys):
    self.linear = Linear(
      features,
      n_out,
      init=nnx.initializers.xavier_uniform(),
      bias_init=nnx.initializers.constant(bias),
      rngs=rngs,
    )

  def __call__(self, x: Float[Array, "B S C"]) -> Float32[Array, "B S T"]:
    return self.linear(x, dtype=jnp.float32)


class GeneExpressionHead(LinearHead):
  """z-scored log expression at every base, one value per track; unbounded."""

  def __init__(self, features: int, table: TrackTable, *, rngs: Keys):
    super().__init__(features, len(table.names), 0.0, rngs=rngs)


class GeneDensityHead(LinearHead):
  """Genes per 128 bp bin; starts at the training mean, so that its ReLU can not start dead."""

  def __init__(self, features: int, table: TrackTable, *, rngs: Keys):
    super().__init__(features, 1, table.density_mean, rngs=rngs)

  def __call__(self, x: Float[Array, "B N C"]) -> Float32[Array, "B N 1"]:
    return jax.nn.relu(super().__call__(x))


class OperonMembershipHead(LinearHead):
  """Logit of lying in an operon, at every base; starts at the training prevalence's log odds."""

  def __init__(self, features: int, table: TrackTable, *, rngs: Keys):
    prevalence = min(max(table.operon_prevalence, MIN_PREVALENCE), 1 - MIN_PREVALENCE)
    super().__init__(features, 1, math.log(prevalence / (1 - prevalence)), rngs=rngs)


class GeneStructureHead(LinearHead):
  """Logits of the codon positions and RNA genes of each strand, at every base."""

  def __init__(self, features: int, table: TrackTable, *, rngs: Keys):
    super().__init__(features, 8, STRUCTURE_LOGIT, rngs=rngs)


class OperonJunctionHead(LinearHead):
  """Logit that the two genes beside a base share an operon, for each strand."""

  def __init__(self, features: int, table: TrackTable, *, rngs: Keys):
    super().__init__(features, 2, 0.0, rngs=rngs)


# Xavier-uniform heads give predictions of variance 2 mean(embedding^2): with this, about 0.05
# before training, so that the heads' biases alone decide where training starts.
INITIAL_SCALE = 0.3


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def sum_parts(
  function: Callable[..., Array], parts: int, values: Any, x: Array, other: Array
) -> tuple[Array, Array]:
  """Sums what a function finds in equal parts of windows, one after the other; passes x on.

  The gradient by x is added, part by part, to that of what x is passed on to: no array of its size
  is made for it.

  Args:
    function: function of the values and a part of both arrays, to an array.
    parts: number of parts, as of `map_parts`.
    values: tree of what the function needs besides.
    x: array over windows.
    other: another.

  Returns:
    x and the sum.
  """
  dealt = (deal(x, parts, 0), deal(other, parts, 0))

  def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
    return total + function(values, *map(as_window, part)), None

  found = jax.eval_shape(function, values, *(a[0] for a in dealt))
  total, _ = jax.lax.scan(add, jnp.zeros(found.shape, found.dtype), dealt)
  return x, total


def _sum_parts_forward(function: Any, parts: int, *inputs: Any) -> tuple[Any, Any]:
  return sum_parts(function, parts, *inputs), inputs


def _sum_parts_backward(function: Any, parts: int, inputs: Any, gradients: Any) -> Any:
  values, x, other = inputs
  by_x, by_sum = gradients

  def add(totals: Any, part: Any) -> tuple[Any, Array]:
    by_values, by_x = totals
    index, *arrays = part
    _, transpose = jax.vjp(function, values, *map(as_window, arrays))
    more_values, more_x, by_other = transpose(by_sum)
    more_x += jax.lax.dynamic_index_in_dim(by_x, index, keepdims=False)
    by_x = jax.lax.dynamic_update_index_in_dim(by_x, more_x, index, 0)
    return (jax.tree.map(jnp.add, by_values, more_values), by_x), by_other

  none = jax.tree.map(jnp.zeros_like, values)
  dealt = (jnp.arange(parts), deal(x, parts, 0), deal(other, parts, 0))
  (by_values, by_x), by_other = jax.lax.scan(add, (none, deal(by_x, parts, 0)), dealt)
  return by_values, join(by_x, 0), join(by_other, 0)


sum_parts.defvjp(_sum_parts_forward, _sum_parts_backward)


class OutputEmbedder(nnx.Module):
  """Doubles the features; at 1 bp the 128 bp embedding is added.

  Args:
    features: number of the input's features; the output has twice as many.
    skip_features: number of the 128 bp embedding's features; 0 where there is none.
    config: sizes of the model.
    rngs: source of the first values.
  """

  def __init__(self, features: int, skip_features: int, config: ModelConfig, *, rngs: Keys):
    out = 2 * features
    self.linear = Linear(features, out, rngs=rngs)
    self.skip = Linear(skip_features, out, bias=False, rngs=rngs) if skip_features else None
    self.norm = RMSBatchNorm(out, decay=config.batch_norm_decay, scale=INITIAL_SCALE, rngs=rngs)
    self.organism = OrganismEmbedding(config.n_organisms, out, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, "B S C"],
    organism: Int[Array, "B"],
    skip: Float[Array, "B N E"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "B S 2*C"]:
    return self.activate(self.norm(self.project(x, skip), train=train), organism)

  def project(
    self, x: Float[Array, "B S C"], skip: Float[Array, "B N E"] | None
  ) -> Float[Array, "B S 2*C"]:
    """Maps to what the norm sees."""
    y = self.linear(x)
    return y if self.skip is None or skip is None else y + upsample(self.skip(skip), BIN_BP)

  def activate(self, y: Float[Array, "B S D"], organism: Int[Array, "B"]) -> Float[Array, "B S D"]:
    """Adds the organism to what the norm gives."""
    return gelu(y + self.organism(organism).astype(y.dtype)[:, None])


class OutputPair(nnx.Module):
  """Pairs made symmetric."""

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    self.norm = LayerNorm(config.pair_channels, centred=False, rngs=rngs)
    self.organism = OrganismEmbedding(config.n_organisms, config.pair_channels, rngs=rngs)

  def __call__(
    self, pair: Float[Array, "B P P F"], organism: Int[Array, "B"]
  ) -> Float[Array, "B P P F"]:
    y = self.norm((pair + rearrange(pair, "b p q f -> b q p f")) / 2)
    return gelu(y + jnp.expand_dims(self.organism(organism).astype(y.dtype), (1, 2)))
