"""AdamW or Muon with warm-up, cosine decay and clipping by the global norm."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int
from optax import contrib

from alphaecoli.model.finetuning import head_of
from alphaecoli.schema import OptimizerConfig

_NOT_DECAYED = ("bias", "scale", "offset")
_FIRST_CONV = "encoder/dna_embedder/conv/"
MUON_MOMENTUM = 0.95


def learning_rate(
  config: OptimizerConfig, steps: int, step: Int[jax.Array, ""] | int
) -> Float[jax.Array, ""]:
  """Returns the learning rate of a step (counted from 0) in a run of `steps`.

  Rises linearly, the first step at peak / warmup_steps, then falls as half a cosine to
  final_fraction of the peak at the last step.

  Source: Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
  """
  # optax.warmup_cosine_decay_schedule(0, peak, warmup, steps, ...)(step + 1) is the same curve, but
  # rounds otherwise (up to 1e-5 of the rate): runs would not be those of before, bit for bit.
  done = jnp.asarray(step, jnp.float32) + 1
  rising = done / max(config.warmup_steps, 1)
  progress = jnp.clip((done - config.warmup_steps) / max(steps - config.warmup_steps, 1), 0, 1)
  falling = (
    config.final_fraction + (1 - config.final_fraction) * (1 + jnp.cos(jnp.pi * progress)) / 2
  )
  return config.learning_rate * jnp.where(done <= config.warmup_steps, rising, falling)


def decayed(params: Mapping[str, Any]) -> dict[str, bool]:
  """Returns which parameters weight decay pulls towards 0: kernels and embeddings."""
  return {
    name: value.ndim >= 2 and not name.endswith(_NOT_DECAYED) for name, value in params.items()
  }


def hidden_matrices(params: Mapping[str, Any]) -> dict[str, str]:
  """Returns which rule moves each parameter under Muon: "muon" or "adam".

  Muon is for maps between features. The first convolution, whose input is bases, heads, embeddings,
  norms and biases stay with Adam.
  """

  def rule(name: str) -> str:
    hidden = name.endswith("/kernel") and head_of(name) is None
    return "muon" if hidden and not name.startswith(_FIRST_CONV) else "adam"

  return {name: rule(name) for name in params}


def _matrices(updates: Mapping[str, Any]) -> Any:
  """Describes kernels (..., inputs, outputs) as the matrices that Muon makes orthogonal."""
  return jax.tree.map(
    lambda x: contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1), updates
  )


def _scale_to(rms: float) -> optax.GradientTransformation:
  """Scales semi-orthogonal updates to a root mean square, whatever the kernel's shape.

  Source: Liu et al. 2025, arXiv:2502.16982, equation 4.
  """

  def scale(x: jax.Array) -> jax.Array:
    n_in, n_out = x.size // x.shape[-1], x.shape[-1]
    return x * (rms * max(n_in, n_out) ** 0.5)

  return optax.stateless(lambda updates, _: jax.tree.map(scale, updates))


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """Scales updates whose global norm is larger than a limit to that norm.

  As `optax.clip_by_global_norm`, but by one factor for all, which XLA applies where an update is
  read; optax divides each, and a scaled copy of all of them is kept beside them.
  """

  def clip(updates: optax.Updates, _: optax.Params | None) -> optax.Updates:
    factor = jnp.minimum(1, limit / optax.tree.norm(updates))
    return jax.tree.map(lambda x: x * factor, updates)

  return optax.stateless(clip)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
  """Makes the optimiser of a run of `steps`.

  Source: AdamW, Loshchilov & Hutter 2019, arXiv:1711.05101. Muon, Jordan et al. 2024,
  kellerjordan.github.io/posts/muon.
  """
  direction = optax.scale_by_adam(config.beta1, config.beta2)
  if config.name == "muon":
    orthogonal = contrib.scale_by_muon(beta=MUON_MOMENTUM, weight_dimension_numbers=_matrices)
    muon = optax.chain(orthogonal, _scale_to(config.muon_rms))
    direction = optax.partition({"muon": muon, "adam": direction}, hidden_matrices)
  # Not optax.adamw(mask=decayed): nested, its state would not be the tree that checkpoints have.
  return optax.chain(
    _clip_by_global_norm(config.clip_norm),
    direction,
    optax.add_decayed_weights(config.weight_decay, decayed),
    optax.scale_by_learning_rate(lambda step: learning_rate(config, steps, step)),
  )


def optimizer_shardings(
  optimizer: optax.GradientTransformation,
  params: Mapping[str, jax.ShapeDtypeStruct],
  mesh: Mesh,
) -> Any:
  """Shards the optimiser's state: moments as their parameters, by name, the rest everywhere."""
  state = jax.eval_shape(optimizer.init, dict(params))
  everywhere = NamedSharding(mesh, PartitionSpec())

  def where(path: tuple[Any, ...], _: Any) -> Any:
    name = getattr(path[-1], "key", "")
    return params[name].sharding if name in params else everywhere

  return jax.tree_util.tree_map_with_path(where, state)
