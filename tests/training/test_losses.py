import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from alphaecoli.schema import HEADS, LossWeights
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable, active_weights
from alphaecoli.training.losses import active_heads
from alphaecoli.training.losses import known_counts as device_counts
from alphaecoli.training.losses import losses as device_losses

ONES = LossWeights(*(1.0 for _ in HEADS))
SHAPES = {
  "gene_expression": (4, 256, 2),
  "gene_density": (4, 2, 1),
  "operon_membership": (4, 256, 1),
  "gene_structure": (4, 256, 8),
  "operon_junction": (4, 256, 2),
}
WEIGHTED = ("gene_expression", "operon_junction")


def _on_device(arrays):
  return {name: jnp.asarray(value) for name, value in arrays.items()}


def losses(outputs, batch, weights, counts=None, expression_weighting="gene"):
  outputs, batch = _on_device(outputs), _on_device(batch)
  return device_losses(outputs, batch, weights, counts, expression_weighting=expression_weighting)


def known_counts(batch, expression_weighting="gene"):
  return device_counts(_on_device(batch), expression_weighting=expression_weighting)


def _batch(seed=0, known=0.5):
  rng = np.random.default_rng(seed)
  batch, outputs = {}, {}
  for head, shape in SHAPES.items():
    outputs[head] = rng.normal(size=shape).astype(np.float32)
    values = rng.normal(size=shape) if head == "gene_expression" else rng.integers(0, 2, shape)
    batch[head] = values.astype(np.float32)
    batch[f"{head}_known"] = rng.random(shape) < known
    if head in WEIGHTED:
      batch[f"{head}_weight"] = (1 / rng.integers(1, 1000, shape)).astype(np.float32)
  return outputs, batch


@pytest.mark.parametrize("weighting", ["gene", "base"])
def test_losses_equal_scikit_learn_over_known_values(weighting):
  outputs, batch = _batch()
  weights = LossWeights(2.0, 3.0, 0.5, 0.25, 1.5)
  total, by_head = losses(outputs, batch, weights, expression_weighting=weighting)
  expected = {}
  for head in HEADS:
    known = batch[f"{head}_known"]
    target, prediction = batch[head][known], outputs[head][known].astype(np.float64)
    weighted = head == "operon_junction" or (head, weighting) == ("gene_expression", "gene")
    weight = batch[f"{head}_weight"][known] if weighted else None
    if head == "gene_structure":  # RNA genes weigh 8 times a codon position
      weight = np.broadcast_to([1, 1, 1, 8, 1, 1, 1, 8], known.shape)[known]
    if head in ("gene_expression", "gene_density"):
      expected[head] = mean_squared_error(target, prediction, sample_weight=weight)
    else:
      expected[head] = log_loss(target, 1 / (1 + np.exp(-prediction)), sample_weight=weight)
    np.testing.assert_allclose(by_head[head], expected[head], rtol=1e-6)
  np.testing.assert_allclose(
    total, np.dot(dataclasses.astuple(weights), list(expected.values())), rtol=1e-6
  )


def test_genes_count_alike_whatever_their_length():
  outputs, batch = _batch()
  known, weight = np.zeros((4, 256, 2), bool), np.zeros((4, 256, 2), np.float32)
  of_genes = []
  for row, start, length, track in ((0, 3, 9, 0), (0, 30, 200, 0), (1, 0, 256, 1), (3, 90, 30, 1)):
    gene = (row, slice(start, start + length), track)
    known[gene], weight[gene] = True, 1 / length
    of_genes.append(np.mean((outputs["gene_expression"] - batch["gene_expression"])[gene] ** 2))
  batch |= {"gene_expression_known": known, "gene_expression_weight": weight}
  found = losses(outputs, batch, ONES)[1]["gene_expression"]
  np.testing.assert_allclose(found, np.mean(of_genes), rtol=1e-6)
  by_base = losses(outputs, batch, ONES, expression_weighting="base")[1]["gene_expression"]
  expected = np.average(of_genes, weights=[9, 200, 256, 30])
  np.testing.assert_allclose(by_base, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_at_unknown_bases_change_neither_loss_nor_gradient(bad):
  outputs, batch = _batch()
  clean = jax.value_and_grad(lambda o: losses(o, batch, ONES)[0])(outputs)
  for head in HEADS:
    unknown = ~batch[f"{head}_known"]
    batch[head][unknown] = bad
    if head in WEIGHTED:
      batch[f"{head}_weight"][unknown] = bad
    outputs[head][unknown] = bad
  dirty = jax.value_and_grad(lambda o: losses(o, batch, ONES)[0])(outputs)
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def test_nothing_known_is_zero_with_zero_gradients():
  outputs, batch = _batch(known=0)
  (total, by_head), gradients = jax.value_and_grad(lambda o: losses(o, batch, ONES), has_aux=True)(
    outputs
  )
  assert total == 0 and set(by_head) == set(HEADS) and not any(by_head.values())
  assert all((g == 0).all() for g in gradients.values())


def test_weight_zero_leaves_a_head_out():
  outputs, batch = _batch()
  del outputs["gene_density"]  # not even looked at
  total, by_head = losses(outputs, batch, LossWeights(1.0, 0.0, 1.0))
  assert set(by_head) == {"gene_expression", "operon_membership"}
  np.testing.assert_allclose(total, sum(by_head.values()), rtol=1e-6)


@pytest.mark.parametrize("weighting", ["gene", "base"])
def test_parts_of_a_batch_sum_to_the_whole_though_their_known_counts_differ(weighting):
  outputs, batch = _batch()
  batch["gene_expression_known"][:2] = False
  batch["gene_expression_known"][0, :3] = True
  whole = losses(outputs, batch, ONES, None, weighting)[1]
  counts = known_counts(batch, weighting)
  parts = []
  for rows in (slice(0, 2), slice(2, 4)):
    part_outputs, part = ({k: v[rows] for k, v in d.items()} for d in (outputs, batch))
    parts.append(losses(part_outputs, part, ONES, counts, weighting)[1])
  for head in HEADS:
    np.testing.assert_allclose(parts[0][head] + parts[1][head], whole[head], rtol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, -80.0, 0.0, 80.0, 1e4])
def test_cross_entropy_is_finite_for_extreme_logits(logit):
  outputs, batch = _batch(known=1)
  outputs["operon_membership"] = np.full(SHAPES["operon_membership"], logit, np.float32)
  value, gradient = jax.value_and_grad(lambda o: losses(o, batch, ONES)[1]["operon_membership"])(
    outputs
  )
  assert np.isfinite(value) and np.isfinite(gradient["operon_membership"]).all()
  share = batch["operon_membership"].mean()
  expected = share * np.logaddexp(0, -logit) + (1 - share) * np.logaddexp(0, logit)
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_losses_are_float32_whatever_the_outputs_are():
  outputs, batch = _batch()
  half = {head: jnp.asarray(v, jnp.bfloat16) for head, v in outputs.items()}
  total, by_head = losses(half, batch, ONES)
  assert total.dtype == jnp.float32 and {v.dtype for v in by_head.values()} == {jnp.dtype("f4")}


def test_counts_are_exact_for_more_values_than_float32_can_count():
  known = np.ones((3, 2**23, 1), bool)
  alike = [name for name, head in HEADS.items() if not head.channel_weights]
  counts = known_counts({f"{head}_known": known for head in alike})
  assert counts["gene_expression"] == 3 * 2**23


def test_heads_without_data_have_no_weight():
  track = ExpressionTrack("mean", ".", (), 0.0, 1.0)
  table = TrackTable((track,), 1.0, 0.5, has_expression=False, has_operons=False)
  weights = active_weights(LossWeights(1.0, 2.0, 3.0), table)
  assert weights == LossWeights(0.0, 2.0, 0.0) and active_heads(weights) == ("gene_density",)
