"""Averages of the parameters: their arithmetic, their statistics, and the runs that keep them."""

import signal

import jax
import numpy as np
import pytest

from alphaecoli.checkpoints.arrays import read_item
from alphaecoli.config import resolve, with_new_keys
from alphaecoli.errors import ConfigError
from alphaecoli.evaluation.evaluator import evaluate_on, make_predict
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, LossWeights
from alphaecoli.training.loop import items_state, state_items
from alphaecoli.training.optimizer import make_optimizer
from alphaecoli.training.resume import EXIT_STOPPED
from alphaecoli.training.run import train_on
from alphaecoli.training.step import Averaging, StepDefinition
from tests.training.small import (
  init_config,
  random_batch,
  random_values,
  stand_in,
  stream,
  tiny_config,
  with_mesh,
)
from tests.training.test_run import _arrays, _at_step, _records

ONES = LossWeights(*(1.0 for _ in HEADS))
DECAY = 0.15  # above what the first step has, 1/10, and below that of the second, 2/11
SHIFTED = {"optimizer__learning_rate": 0.05}  # so that parameters and averages differ


def _definition(config, functional=None):
  return StepDefinition(
    functional or stand_in(),
    make_optimizer(config.optimizer, config.train.steps),
    ONES,
    make_mesh(config.mesh, jax.devices()[: max(config.mesh.data, 1) * config.mesh.fsdp]),
    ema_decay=config.train.ema_decay,
  )


def _states(config, functional=None, n=3):
  """The states of n steps on one batch, on the host."""
  definition = _definition(config, functional)
  with jax.set_mesh(definition.mesh):
    state, step = definition.init_state(0), definition.jit()
    states, batch = [jax.device_get(state)], put_batch(random_batch(config), definition.mesh)
    for _ in range(n):
      state, _ = step(state, batch, jax.random.key(1))
      states.append(jax.device_get(state))
  return definition, states


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)], ids=["one device", "mesh"])
def test_average_over_three_steps_is_numpys(mesh):
  config = with_mesh(tiny_config(train__ema_decay=DECAY, **SHIFTED), *mesh)
  functional = stand_in().with_finetuning(init_config(freeze="first"))
  definition, states = _states(config, functional)
  learning = functional.learning(states[0].params)
  assert 0 < len(learning) < len(states[0].params)
  expected = dict(learning)
  for decay, state in zip((0.1, DECAY, DECAY), states[1:], strict=True):
    for name, value in expected.items():
      expected[name] = decay * value + (1 - decay) * state.params[name]
    assert state.average.keys() == expected.keys()
    for name, value in state.average.items():
      assert value.dtype == np.float32
      np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
  assert any((states[-1].average[n] != states[-1].params[n]).any() for n in expected)
  abstract = definition.abstract_state()
  assert abstract.average == {name: abstract.params[name] for name in learning}


def test_the_steps_are_those_without_an_average_which_leaves_no_trace():
  config = with_mesh(tiny_config(**SHIFTED), 1)
  plain, states = _states(config)
  _, averaged = _states(with_mesh(tiny_config(train__ema_decay=DECAY, **SHIFTED), 1))
  for found, expected in zip(averaged, states, strict=True):
    for a, b in zip(jax.tree.leaves(found[:4]), jax.tree.leaves(expected[:4]), strict=True):
      np.testing.assert_array_equal(a, b)
  assert plain.abstract_state().average == {}
  items = state_items(plain.abstract_state())
  assert items.keys() == {"params", "stats", "train"}
  assert items["train"].keys() == {"step", "opt_state"}
  older = config.to_dict()
  del older["train"]["ema_decay"], older["evaluation"]["both_strands"]
  older = resolve(with_new_keys(older))
  assert older.train.ema_decay == 0 and not older.evaluation.both_strands


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_is_checked(decay):
  with pytest.raises(ConfigError, match=r"train.ema_decay=.* is not in \[0, 1\)"):
    tiny_config(train__ema_decay=decay)


@pytest.mark.parametrize(
  ("mesh", "parts"), [((1, 1), 1), ((4, 2), 1), ((2, 2), 2)], ids=["one", "mesh", "micro-batches"]
)
def test_statistics_are_the_mean_over_batches_under_the_average(store, mesh, parts, monkeypatch):
  monkeypatch.setattr("alphaecoli.training.step.STATISTICS_BATCHES", 5)
  config = with_mesh(tiny_config(train__ema_decay=DECAY, train__accumulate_steps=parts), *mesh)
  functional = stand_in()
  definition = _definition(config, functional)
  values, _ = random_values(functional, 1)
  average = jax.device_put(values, functional.shardings(definition.mesh)[0])
  with stream(config, store) as windows:
    sequences = np.concatenate([next(windows)["sequence"] for _ in range(5)])
  hidden = np.eye(5, 4)[sequences] @ values["first/kernel"] + values["first/bias"]
  expected = np.square(np.asarray(jax.nn.gelu(hidden), np.float64)).mean((0, 1))

  def batches(first_step, batch_windows):
    return stream(config, store, first_step, batch_windows=batch_windows)

  with jax.set_mesh(definition.mesh):
    state = definition.init_state(0)._replace(average=average)
    measured = Averaging(definition, config, batches)
    measured.compile()
    params, stats = measured.values(state)
    again = measured.values(state)[1]
  assert params.keys() == state.params.keys() and again is stats
  assert all(params[name] is value for name, value in average.items())
  np.testing.assert_allclose(stats["norm/mean_square"], expected, rtol=1e-5)
  where = functional.shardings(definition.mesh)[1]["norm/mean_square"]
  assert stats["norm/mean_square"].sharding.is_equivalent_to(where, 1)


def test_frozen_statistics_stay(store):
  functional = stand_in().with_finetuning(init_config(freeze="norm"))
  config = with_mesh(tiny_config(train__ema_decay=DECAY), 1)
  definition = _definition(config, functional)
  with jax.set_mesh(definition.mesh):
    state = definition.init_state(0)
    measured = Averaging(definition, config, lambda first_step, windows: stream(config, store))
    measured.compile()
    assert measured.values(state)[1] == state.stats


def _config(**overrides):
  return with_mesh(tiny_config(train__ema_decay=0.7, **SHIFTED, **overrides), 4, 2)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
  """The work directory of an undisturbed run; checkpoints of steps 4, not measured, and 8."""
  workdir = tmp_path_factory.mktemp("run")
  assert train_on(store, _config(), workdir, stand_in()) == 0
  return workdir


def test_a_checkpoint_holds_what_was_measured_and_what_training_goes_on_from(store, finished):
  functional, config = stand_in(), _config()
  definition = _definition(config, functional)
  folder = finished / "checkpoints" / "8"
  abstract = state_items(definition.abstract_state())
  items = {name: read_item(folder / name, abstract[name]) for name in abstract}
  state = items_state(items)
  assert state.average.keys() == state.params.keys()
  for name, value in state.average.items():
    np.testing.assert_array_equal(items["params"][name], value)
  assert any((np.asarray(state.params[n]) != state.average[n]).any() for n in state.average)
  assert (np.asarray(items["stats"]["norm/mean_square"]) != state.stats["norm/mean_square"]).any()
  with jax.set_mesh(definition.mesh):
    predict = make_predict(functional, definition.mesh)

    def scalars(params, stats):
      report = evaluate_on(
        definition.mesh,
        lambda batch: predict(params, stats, batch),
        store,
        "validation",
        config,
        store.table,
      )
      return report.scalars()

    found = scalars(items["params"], items["stats"])
    last = scalars(state.params, state.stats)
  (record,) = _records(finished, "validation")
  assert found["loss/total"] == record["loss/total"] != last["loss/total"]


@pytest.mark.parametrize("step", [3, 8], ids=["between saves", "at an evaluation"])
def test_a_run_that_is_stopped_goes_on_bit_for_bit(store, finished, tmp_path, monkeypatch, step):
  with monkeypatch.context() as patch:
    _at_step(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
    assert train_on(store, _config(), tmp_path, stand_in()) == EXIT_STOPPED
  assert (tmp_path / "checkpoints" / str(step)).is_dir()
  assert train_on(store, _config(), tmp_path, stand_in()) == 0
  expected, found = _arrays(finished, 8), _arrays(tmp_path, 8)
  assert expected.keys() == found.keys() and len(expected) > 40
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  for kind in ("train", "validation"):
    assert _records(tmp_path, kind) == _records(finished, kind)


def test_statistics_are_estimated_once_for_an_evaluation_and_a_save(store, tmp_path, monkeypatch):
  steps, estimate = [], Averaging._estimate

  def counted(self, params, stats):
    steps.append(1)
    return estimate(self, params, stats)

  monkeypatch.setattr(Averaging, "_estimate", counted)
  assert train_on(store, _config(evaluation__every_steps=4), tmp_path, stand_in()) == 0
  assert len(steps) == 2


def test_a_run_does_not_change_to_another_average(store, finished):
  config = with_mesh(tiny_config(**SHIFTED), 4, 2)
  with pytest.raises(ConfigError, match=r"another run: train.ema_decay was 0.7 and is 0.0"):
    train_on(store, config, finished, stand_in())
