"""What is predicted from the embeddings. Outputs are raw (logits where there are some), float32."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, PRNGKeyArray

from alphaecoli.model.layers import Linear

MIN_PREVALENCE = 1e-3  # keeps the initial log odds finite


def dropout(x: Float[Array, "*B"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*B"]:
  """Zeroes a share `rate` of the values and scales up the others; no key, no dropout."""
  if key is None or rate == 0:
    return x
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


class LinearHead(nnx.Module):
  """A linear map of an embedding, Xavier-uniform; sums and output are float32."""

  def __init__(self, features: int, n_out: int, bias: float, *, rngs: nnx.Rngs):
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

  def __init__(self, features: int, n_tracks: int, *, rngs: nnx.Rngs):
    super().__init__(features, n_tracks, 0.0, rngs=rngs)


class GeneDensityHead(LinearHead):
  """Genes per 128 bp bin; starts at the training mean, so that its ReLU can not start dead."""

  def __init__(self, features: int, mean: float, *, rngs: nnx.Rngs):
    super().__init__(features, 1, mean, rngs=rngs)

  def __call__(self, x: Float[Array, "B N C"]) -> Float32[Array, "B N 1"]:
    return jax.nn.relu(super().__call__(x))


class OperonMembershipHead(LinearHead):
  """Logit of lying in an operon, at every base; starts at the log odds of the training share."""

  def __init__(self, features: int, prevalence: float, *, rngs: nnx.Rngs):
    share = min(max(prevalence, MIN_PREVALENCE), 1 - MIN_PREVALENCE)
    super().__init__(features, 1, math.log(share / (1 - share)), rngs=rngs)
