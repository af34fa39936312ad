"""The trunk's outputs: embeddings at 1 bp, at 128 bp and of pairs.

Source: Avsec et al., AlphaGenome (Nature 2026), Supplementary Information, OutputEmbedder and
OutputPair.
"""

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from alphaecoli.model.layers import (
  LayerNorm,
  Linear,
  OrganismEmbedding,
  RMSBatchNorm,
  gelu,
  upsample,
)
from alphaecoli.schema import BIN_BP, ModelConfig

# Xavier-uniform heads give predictions of variance 2 mean(embedding^2): with this, about 0.05
# before training, so that the heads' biases alone decide where training starts.
INITIAL_SCALE = 0.3


class OutputEmbedder(nnx.Module):
  """Doubles the features; at 1 bp the 128 bp embedding is added.

  Args:
    features: of the input; the output has twice as many.
    skip_features: of the 128 bp embedding; 0 where there is none.
  """

  def __init__(self, features: int, skip_features: int, config: ModelConfig, *, rngs: nnx.Rngs):
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
    y = self.linear(x)
    if self.skip is not None and skip is not None:
      y = y + upsample(self.skip(skip), BIN_BP)
    y = self.norm(y, train=train)
    return gelu(y + self.organism(organism).astype(y.dtype)[:, None])


class OutputPair(nnx.Module):
  """Pairs made symmetric."""

  def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
    self.norm = LayerNorm(config.pair_channels, centred=False, rngs=rngs)
    self.organism = OrganismEmbedding(config.n_organisms, config.pair_channels, rngs=rngs)

  def __call__(
    self, pair: Float[Array, "B P P F"], organism: Int[Array, "B"]
  ) -> Float[Array, "B P P F"]:
    y = self.norm((pair + rearrange(pair, "b p q f -> b q p f")) / 2)
    return gelu(y + jnp.expand_dims(self.organism(organism).astype(y.dtype), (1, 2)))
