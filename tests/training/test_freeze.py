"""Frozen parts stay bit for bit; low-rank factors start as the base model's function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.model.finetuning import factor_names, head_of, names_under
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, LossWeights, MeshConfig
from alphaecoli.training.losses import known_counts, losses
from alphaecoli.training.optimizer import make_optimizer
from alphaecoli.training.step import StepDefinition
from tests.training.small import TABLE, init_config, random_batch, stand_in, tiny_config

ONES = LossWeights(*(1.0 for _ in HEADS))
# Decay and a high rate: whatever could pull at a frozen parameter does so. Two pair bins: attention
# along a row of one has no gradient.
CONFIG = tiny_config(
  data__window_bp=4096, optimizer__weight_decay=0.5, optimizer__learning_rate=0.05
)
QUERY = "tower/layers/0/attention/query/kernel"


def _mesh(data=1, fsdp=1):
  return make_mesh(MeshConfig(data, fsdp, 1), jax.devices()[: data * fsdp])


def _steps(functional, config, mesh, n=3, **options):
  """The first and the last state, as host arrays, and the metrics of n steps on one batch."""
  optimizer = make_optimizer(config.optimizer, config.train.steps)
  definition = StepDefinition(functional, optimizer, ONES, mesh, **options)
  with jax.set_mesh(mesh):
    state = definition.init_state(0)
    before = jax.device_get(state)
    step = definition.jit()
    batch, history = put_batch(random_batch(config), mesh), []
    for _ in range(n):
      state, metrics = step(state, batch, jax.random.key(1))
      history.append(jax.device_get(metrics))
  return before, state, history


def _changed(before, after):
  return {name for name, value in before.items() if not np.array_equal(after[name], value)}


def _moments(state):
  """Names of the parameters that the optimiser keeps something of."""
  return set(state.opt_state[1].mu)


@pytest.mark.parametrize(
  ("mesh", "options"),
  [((1, 1), {}), ((2, 4), {}), ((1, 1), {"accumulate_steps": 3})],
  ids=["one device", "mesh", "accumulation"],
)
def test_frozen_parameters_and_statistics_stay_bit_for_bit(mesh, options):
  config = CONFIG if not options else tiny_config(train__batch_windows=6)
  functional = stand_in().with_finetuning(init_config(freeze="first,norm,operon"))
  before, after, _ = _steps(functional, config, _mesh(*mesh), **options)
  assert _changed(before.stats, after.stats) == set()
  heads = ("expression", "density", "structure", "junction")
  learn = {f"{head}/{part}" for head in heads for part in ("kernel", "bias")}
  assert _changed(before.params, after.params) == learn == _moments(after)


def test_a_norm_that_is_not_frozen_moves():
  functional = stand_in().with_finetuning(init_config(freeze="first"))
  before, after, _ = _steps(functional, CONFIG, _mesh())
  assert _changed(before.stats, after.stats) == {"norm/mean_square"}


def test_no_gradient_of_frozen_parts_is_computed():
  """The trunk's gradients cost twice its forward pass; without them little is left."""

  def flops(functional):
    optimizer, mesh = make_optimizer(CONFIG.optimizer, 8), _mesh()
    with jax.set_mesh(mesh):
      definition = StepDefinition(functional, optimizer, ONES, mesh)
      lowered = definition.jit().lower(
        definition.abstract_state(), put_batch(random_batch(CONFIG), mesh), jax.random.key(0)
      )
    return lowered.cost_analysis()["flops"]

  model = FunctionalModel.of_model(CONFIG.model, TABLE)
  assert flops(model.with_finetuning(init_config(freeze="trunk"))) < 0.45 * flops(model)


@pytest.fixture(scope="module")
def lora():
  """The tiny AlphaEcoli on data 2 x fsdp 4, trunk frozen, with factors of rank 2."""
  init = init_config(freeze="trunk", lora_rank=2, lora_alpha=4.0)
  functional = FunctionalModel.of_model(CONFIG.model, TABLE).with_finetuning(init)
  return functional, *_steps(functional, CONFIG, _mesh(2, 4))


def test_of_the_real_model_only_factors_and_heads_learn(lora):
  functional, before, after, _ = lora
  assert _changed(before.stats, after.stats) == set()
  factors = {name for kernel in functional.lora_kernels for name in factor_names(kernel)}
  heads = {name for name in functional.params if head_of(name)}
  assert _changed(before.params, after.params) == factors | heads == _moments(after)
  kinds = {name.split("/")[-2] for name in functional.lora_kernels}
  assert {"query", "key", "value", "output", "expand", "contract", "linear"} <= kinds


def test_a_frozen_trunk_trains_on_the_outputs_of_evaluation_and_factors_start_at_its_function(
  lora,
):
  """The first loss is that of the base model with its running statistics."""
  _, before, _, history = lora
  base = FunctionalModel.of_model(CONFIG.model, TABLE)
  own = {name: before.params[name] for name in base.params}
  stats = {name: value * 1.5 for name, value in before.stats.items()}
  batch = {name: jnp.asarray(x) for name, x in random_batch(CONFIG).items()}

  @jax.jit
  def loss(params, stats):
    outputs = base.merge(params, stats)(batch["sequence"], batch["organism"])
    return losses(outputs, batch, ONES, known_counts(batch))[0]

  np.testing.assert_allclose(history[0]["loss/total"], loss(own, before.stats), rtol=1e-4)
  assert abs(loss(own, stats) / loss(own, before.stats) - 1) > 1e-3  # the test can see statistics


def test_factors_and_their_moments_follow_the_rules(lora):
  _, _, state, _ = lora
  down, up = factor_names("embed_one_bp/skip/kernel")
  for values in (state.params, state.opt_state[1].mu):
    assert values[down].sharding.shard_shape(values[down].shape) == values[down].shape
    assert values[up].sharding.shard_shape(values[up].shape)[1] == values[up].shape[1] // 4


def test_the_module_has_kernels_with_their_factors_added(lora):
  functional, _, state, _ = lora
  merged, _ = functional.split(functional.merge(state.params, state.stats))
  down, up = (np.asarray(state.params[name], np.float64) for name in factor_names(QUERY))
  expected = np.asarray(state.params[QUERY], np.float64) + 4.0 / 2 * down @ up
  np.testing.assert_allclose(merged[QUERY], expected, rtol=1e-5, atol=1e-6)
  assert np.abs(merged[QUERY] - np.asarray(state.params[QUERY])).max() > 1e-3
  assert merged.keys() == FunctionalModel.of_model(CONFIG.model, TABLE).params.keys()


def test_the_parameter_table_says_what_learns(lora):
  functional, *_ = lora
  header, *rows = functional.parameter_table().splitlines()
  assert header.split() == ["parameters", "learn", "frozen"]
  counts = {row.split()[0]: [int(n.replace(",", "")) for n in row.split()[1:]] for row in rows}
  assert all(all_ == learn + frozen for all_, learn, frozen in counts.values())
  assert counts["gene_expression"][2] == 0 and counts["encoder"][1] == 0
  assert counts["tower"][1] > 0


def test_parts_are_named_by_prefix_or_shorthand():
  names = FunctionalModel.of_model(CONFIG.model, TABLE).params
  trunk, heads = names_under(names, ["trunk"]), names_under(names, ["heads"])
  assert trunk | heads == names.keys() and not trunk & heads
  assert {name.split("/")[0] for name in heads} == set(HEADS)
  query = names_under(names, ["tower/layers/0/attention/query", "organism"])
  assert query == {QUERY, "organism/table"}
  assert names_under(names, []) == frozenset()


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"freeze": "encode"}, "no part 'encode'; did you mean encoder"),
    ({"freeze": "tower/layers/9"}, "no part 'tower/layers/9'"),
    ({"freeze": "trunk,heads"}, "freezes every parameter"),
    ({"freeze": "organism", "lora_rank": 4}, "no linear map of init.freeze=organism"),
  ],
  ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_parts_that_can_not_be_are_refused(values, message):
  with pytest.raises(ConfigError, match=message) as failure:
    FunctionalModel.of_model(CONFIG.model, TABLE).with_finetuning(init_config(**values))
  assert "\n" not in str(failure.value)


def test_factors_without_frozen_parts_are_refused():
  with pytest.raises(ConfigError, match="add --config"):
    init_config(lora_rank=4)
