"""The transformer tower over 128 bp bins, and the pair stack that biases its attention.

Source: Avsec et al., AlphaGenome (Nature 2026), Supplementary Information, TransformerTower.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from alphaecoli.model.attention import BINS_PER_PAIR, MLP, AttentionBias, MultiQueryAttention
from alphaecoli.model.layers import run_block
from alphaecoli.model.pair import PairUpdate
from alphaecoli.schema import ModelConfig
from alphaecoli.sharding import pin


class TransformerLayer(nnx.Module):
  """Pair update (in some layers), attention biased by the pairs, MLP."""

  def __init__(self, features: int, config: ModelConfig, *, update_pair: bool, rngs: nnx.Rngs):
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
  """The layers, one after the other, the pairs starting at zero."""

  def __init__(self, features: int, config: ModelConfig, *, rngs: nnx.Rngs):
    self.remat, self.pair_channels = config.remat, config.pair_channels
    self.layers = nnx.List(
      [
        TransformerLayer(features, config, update_pair=i % config.pair_every == 0, rngs=rngs)
        for i in range(config.n_layers)
      ]
    )

  def __call__(
    self, x: Float[Array, "B N D"], *, train: bool = False
  ) -> tuple[Float[Array, "B N D"], Float[Array, "B P P F"]]:
    pair = self.empty_pair(x)
    for layer in self.layers:
      x, pair = run_block(layer, x, pair, train=train, remat=self.remat)
    return x, pair

  def empty_pair(self, x: Float[Array, "B N D"]) -> Float[Array, "B P P F"]:
    """The pair activations before the first update."""
    n = x.shape[1] // BINS_PER_PAIR
    return jnp.zeros((x.shape[0], n, n, self.pair_channels), x.dtype)
