"""AdamW with warm-up, cosine decay and clipping by the global norm."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from alphaecoli.schema import OptimizerConfig

_NOT_DECAYED = ("bias", "scale", "offset")


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


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
  """Makes the optimiser of a run of `steps`.

  Source: AdamW, Loshchilov & Hutter 2019, arXiv:1711.05101.
  """
  # Not optax.adamw(mask=decayed): nested, its state would not be the tree that checkpoints have.
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.scale_by_adam(config.beta1, config.beta2),
    optax.add_decayed_weights(config.weight_decay, decayed),
    optax.scale_by_learning_rate(lambda step: learning_rate(config, steps, step)),
  )


def optimizer_shardings(
  optimizer: optax.GradientTransformation,
  params: Mapping[str, jax.ShapeDtypeStruct],
  mesh: Mesh,
) -> Any:
  """Shards the optimiser's state: moments as their parameters, counters everywhere."""
  state = jax.eval_shape(optimizer.init, dict(params))
  return optax.tree_map_params(
    optimizer,
    lambda _, param: param.sharding,
    state,
    dict(params),
    transform_non_params=lambda _: NamedSharding(mesh, PartitionSpec()),
  )
