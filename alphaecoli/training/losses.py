"""What training minimises: masked means over the global batch, float32 (docs/training.md)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32

from alphaecoli.schema import HEADS, Head

HeadWeights = Any  # LossWeights, or what `weights_of` makes of another table of heads


def active_heads(weights: HeadWeights) -> tuple[str, ...]:
  """Returns the heads whose weight is not 0, in the order of the table."""
  return tuple(name for name, weight in dataclasses.asdict(weights).items() if weight)


def squared_error(
  prediction: Float[Array, "B S T"], target: Float[Array, "B S T"], mask: Bool[Array, "B S T"]
) -> Float32[Array, "B S T"]:
  """Computes squared differences, 0 where the target is unknown, whatever stands there."""
  # The mask comes before the difference: NaN times 0 would be NaN, in the gradient too.
  difference = prediction.astype(jnp.float32) - jnp.where(mask, target, 0)
  return jnp.square(jnp.where(mask, difference, 0))


def cross_entropy(
  logit: Float[Array, "B S T"], target: Float[Array, "B S T"], mask: Bool[Array, "B S T"]
) -> Float32[Array, "B S T"]:
  """Computes binary cross-entropy in nats, from logits: -log p(target) = softplus(x) - target * x.

  optax.sigmoid_binary_cross_entropy takes two softplus for it, and rounds otherwise.
  """
  logit = jnp.where(mask, logit.astype(jnp.float32), 0)
  return jnp.where(mask, jax.nn.softplus(logit) - jnp.where(mask, target, 0) * logit, 0)


# By the name that the table of heads uses.
ELEMENTWISE = {"squared_error": squared_error, "cross_entropy": cross_entropy}


def target_weights(
  batch: Mapping[str, Array], head: str, expression_weighting: str = "gene"
) -> Float32[Array, "B S T"]:
  """Returns the weight of each target value: 0 where unknown, else the batch's or the channel's.

  With `expression_weighting` "base", all known bases' expression weighs the same.
  """
  known, name = batch[f"{head}_known"], f"{head}_weight"
  if name not in batch or (head, expression_weighting) == ("gene_expression", "base"):
    channels = HEADS[head].channel_weights if head in HEADS else ()
    return known * jnp.broadcast_to(jnp.asarray(channels or 1.0, jnp.float32), known.shape)
  return jnp.where(known, batch[name], 0)


def known_counts(
  batch: Mapping[str, Array],
  heads: Iterable[str] = HEADS,
  expression_weighting: str = "gene",
) -> dict[str, Float32[Array, ""]]:
  """Returns the sum of the weights of each head's known targets, of the heads in a batch."""
  return {
    head: _total(target_weights(batch, head, expression_weighting))
    for head in heads
    if f"{head}_known" in batch
  }


def losses(
  outputs: Mapping[str, Array],
  batch: Mapping[str, Array],
  weights: HeadWeights,
  counts: Mapping[str, Array] | None = None,
  heads: Mapping[str, Head] = HEADS,
  expression_weighting: str = "gene",
  late_factor: Float32[Array, ""] | float = 1.0,
) -> tuple[Float32[Array, ""], dict[str, Float32[Array, ""]]]:
  """Computes the losses of a batch.

  Args:
    outputs: raw outputs of the model: z-scores, genes per bin, logits.
    batch: targets and their masks.
    weights: weight of each head in the total; a head with weight 0 is left out altogether.
    counts: total weights to divide by, where `batch` is only a part of the batch whose mean is
      wanted; the parts' losses then sum to the whole's. By default those of `batch`.
    heads: table of heads, for the loss of each.
    expression_weighting: "gene" or "base", as in `loss.expression_weighting`.
    late_factor: factor of the weights of heads that are late in the table.

  Returns:
    The weighted sum, and the weighted mean over known values of each head with a weight: 0, with
    finite gradients, where nothing is known.
  """
  counts = known_counts(batch, heads, expression_weighting) if counts is None else counts
  by_head = {}
  for head in active_heads(weights):
    elementwise = ELEMENTWISE[heads[head].loss]
    values = elementwise(outputs[head], batch[head], batch[f"{head}_known"])
    values = values * target_weights(batch, head, expression_weighting)
    by_head[head] = _total(values) / jnp.where(counts[head] > 0, counts[head], 1)
  factors = {head: late_factor if heads[head].late else 1.0 for head in by_head}
  terms = (factors[h] * getattr(weights, h) * loss for h, loss in by_head.items())
  total = sum(terms, jnp.float32(0))
  return total, by_head


def _total(values: Float32[Array, "B S T"]) -> Float32[Array, ""]:
  """Sums in two stages, so that float32 holds the count of a large batch."""
  return values.sum((1, 2)).sum()
