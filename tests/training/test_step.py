import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import check_batch_size, device_batches, put_batch
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, LossWeights, MeshConfig
from alphaecoli.training.optimizer import make_optimizer
from alphaecoli.training.step import StepDefinition
from tests.training.small import TABLE, random_batch, stand_in, tiny_config, with_mesh

ONES = LossWeights(*(1.0 for _ in HEADS))


def _mesh(data=1, fsdp=1):
  return make_mesh(MeshConfig(data, fsdp, 1), jax.devices()[: data * fsdp])


def _steps(functional, config, mesh, n, weights=ONES, optimizer=None, **options):
  """The state and the metrics of every step after n steps on one batch."""
  optimizer = optimizer or make_optimizer(config.optimizer, config.train.steps)
  definition = StepDefinition(functional, optimizer, weights, mesh, **options)
  with jax.set_mesh(mesh):
    state, step = definition.init_state(0), definition.jit()
    batch, history = put_batch(random_batch(config), mesh), []
    for _ in range(n):
      state, metrics = step(state, batch, jax.random.key(1))
      history.append(jax.device_get(metrics))
  return state, history


def _close(found, expected, **tolerance):
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


def test_fresh_parameters_are_the_same_on_any_number_of_devices():
  functional = stand_in()
  one, eight = (functional.init(3, _mesh(*m))[0] for m in ((1, 1), (2, 4)))
  _close(eight, one, rtol=0)


def test_one_batch_can_be_fitted_by_every_head():
  config = tiny_config(
    train__batch_windows=1,
    train__steps=500,  # five heads share the trunk
    optimizer__learning_rate=3e-3,
    optimizer__weight_decay=0.0,
  )
  functional = FunctionalModel.of_model(config.model, TABLE)
  _, history = _steps(functional, config, _mesh(), 500)
  for head in HEADS:
    assert history[0][f"known/{head}"]
    assert history[-1][f"loss/{head}"] < 0.1 * history[0][f"loss/{head}"], head


@pytest.mark.parametrize("weighting", ["gene", "base"])
def test_accumulation_over_micro_batches_equals_the_whole_batch(weighting):
  config, functional = tiny_config(), stand_in(norm=False)
  options = {"expression_weighting": weighting}
  whole, whole_metrics = _steps(functional, config, _mesh(), 2, **options)
  parts, parts_metrics = _steps(functional, config, _mesh(), 2, accumulate_steps=4, **options)
  _close(parts.params, whole.params, atol=1e-6)
  for a, b in zip(whole_metrics, parts_metrics, strict=True):
    _close(b, {n: v for n, v in a.items() if n not in ("start", "reverse")}, rtol=1e-5)


def test_accumulation_on_several_devices_equals_one():
  config, functional = tiny_config(), stand_in()
  one, _ = _steps(functional, config, _mesh(), 2, accumulate_steps=2)
  four, _ = _steps(functional, config, _mesh(2, 2), 2, accumulate_steps=2)
  _close(four.params, one.params, atol=1e-6)
  _close(four.stats, one.stats, rtol=1e-5)


def test_running_statistics_move_by_the_mean_over_micro_batches():
  config, functional = tiny_config(), stand_in(norm=False)
  state, _ = _steps(functional, config, _mesh(), 1)
  parts, _ = _steps(functional, config, _mesh(), 1, accumulate_steps=4)
  _close(parts.stats, state.stats, rtol=1e-6)
  assert (parts.stats["norm/mean_square"] != 1).any()


def test_the_configuration_says_whether_genes_or_bases_count_alike():
  functional, batch, found = stand_in(), random_batch(tiny_config()), {}
  for weighting in ("gene", "base"):
    config = tiny_config(loss__expression_weighting=weighting)
    definition = StepDefinition.of_config(config, TABLE, _mesh(), functional)
    with jax.set_mesh(_mesh()):
      state = definition.init_state(0)
      _, metrics = definition.jit()(state, put_batch(batch, _mesh()), jax.random.key(1))
    found[weighting] = jax.device_get(metrics)
  known = batch["gene_expression_known"]
  weight = batch["gene_expression_weight"][known]
  np.testing.assert_allclose(found["base"]["known/gene_expression"], known.sum())
  np.testing.assert_allclose(found["gene"]["known/gene_expression"], weight.sum(), rtol=1e-6)
  params, stats = functional.init(0, _mesh())
  model = functional.merge(params, stats)
  outputs = model(jnp.asarray(batch["sequence"]), jnp.asarray(batch["organism"]), train=True)
  error = np.square(np.asarray(outputs["gene_expression"]) - batch["gene_expression"])[known]
  for weighting, expected in (("gene", np.average(error, weights=weight)), ("base", error.mean())):
    np.testing.assert_allclose(found[weighting]["loss/gene_expression"], expected, rtol=1e-5)


def test_heads_with_few_labels_wait_until_genes_are_found():
  config, functional = tiny_config(), stand_in()
  _, history = _steps(functional, config, _mesh(), 3, structure_first_steps=2)
  late = {name for name, head in HEADS.items() if head.late}
  assert late == {"gene_expression", "operon_membership", "operon_junction"}
  for metrics, factor in zip(history, (0.1, 0.1, 1.0), strict=True):
    terms = [metrics[f"loss/{h}"] * (factor if h in late else 1.0) for h in HEADS]
    np.testing.assert_allclose(metrics["loss/total"], sum(terms), rtol=1e-5)


def test_a_head_with_weight_zero_is_not_computed_and_does_not_learn():
  config, functional = tiny_config(optimizer__weight_decay=0.0), stand_in()
  before = functional.init(0, _mesh())[0]
  state, history = _steps(functional, config, _mesh(), 2, LossWeights(1.0, 0.0, 1.0))
  assert not any("gene_density" in name for name in history[0])
  np.testing.assert_array_equal(state.params["density/kernel"], before["density/kernel"])
  assert (state.params["operon/kernel"] != before["operon/kernel"]).any()


def test_dropout_depends_on_the_step_and_on_nothing_else():
  config, functional = tiny_config(optimizer__learning_rate=1e-30), stand_in(dropout=0.5)
  _, first = _steps(functional, config, _mesh(), 2, dropout=True)
  _, again = _steps(functional, config, _mesh(4, 2), 2, dropout=True)
  assert first[0]["loss/total"] != first[1]["loss/total"]
  for a, b in zip(first, again, strict=True):
    np.testing.assert_allclose(a["loss/total"], b["loss/total"], rtol=1e-5)


def test_a_batch_must_divide_over_devices_and_micro_batches():
  config = tiny_config(train__batch_windows=8, train__accumulate_steps=2)
  check_batch_size(with_mesh(config, 4), _mesh(4))
  with pytest.raises(ConfigError, match=r"multiple .* = 8 x 2; nearest: 16 or 32"):
    check_batch_size(config, _mesh(8))


def test_device_batches_come_in_order_and_one_ahead():
  config, mesh, taken = tiny_config(), _mesh(8), []

  def source():
    for i in range(3):
      taken.append(i)
      yield random_batch(config, seed=i)

  with jax.set_mesh(mesh):
    batches = device_batches(source(), mesh)
    first = next(batches)
    assert taken == [0, 1]
    rest = list(batches)
  for i, batch in enumerate([first, *rest]):
    expected = random_batch(config, seed=i)
    assert batch["sequence"].sharding.shard_shape(batch["sequence"].shape)[0] == 1
    for name, value in expected.items():
      np.testing.assert_array_equal(batch[name], value)


def test_a_step_without_known_expression_keeps_every_value_finite():
  config, functional, mesh = tiny_config(), stand_in(), _mesh()
  definition = StepDefinition(functional, make_optimizer(config.optimizer, 8), ONES, mesh)
  batch = random_batch(config)
  batch["gene_expression_known"][:] = False
  batch["gene_expression"][:] = np.nan
  with jax.set_mesh(mesh):
    state, step = definition.init_state(0), definition.jit()
    state, metrics = step(state, put_batch(batch, mesh), jax.random.key(0))
  assert metrics["loss/gene_expression"] == 0 and metrics["known/gene_expression"] == 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))
