"""FLOPs against a count by hand and against XLA's of a whole step; goodput; peak memory."""

import logging

import jax
import numpy as np
import pytest

from alphaecoli.model import pair, transformer
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel import hardware
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, LossWeights
from alphaecoli.training import profiler as speed
from alphaecoli.training.metrics_log import Stopwatch
from alphaecoli.training.optimizer import make_optimizer
from alphaecoli.training.step import StepDefinition
from tests.training.small import TABLE, random_batch, stand_in, tiny_config, with_mesh


def _model_flops(config, functional):
  with jax.set_mesh(make_mesh(config.mesh)):  # as in a run, whose devices are not counted on
    return speed.model_flops(functional, config.train.batch_windows, config.data.window_bp)


def test_flops_are_three_times_the_multiplications_and_additions_of_the_layers():
  config = with_mesh(tiny_config(), 8)
  per_base = 2 * 16 * (4 + 1 + 1 / 128 + 1 + 8 + 2)  # the linear layers of the stand-in
  layers = 3 * per_base * config.train.batch_windows * config.data.window_bp
  found = _model_flops(config, stand_in())
  assert layers < found < 2.5 * layers  # norm and GELU of 16 features weigh much beside 4 x 16


def test_flops_are_those_of_the_whole_step_without_the_optimiser_or_recomputation():
  config = with_mesh(tiny_config(model__channels=32), 8)
  functional, mesh = FunctionalModel.of_model(config.model, TABLE), make_mesh(config.mesh)
  optimizer = make_optimizer(config.optimizer, 8)
  with jax.set_mesh(mesh):
    definition = StepDefinition(functional, optimizer, LossWeights(*(1.0 for _ in HEADS)), mesh)
    batch = put_batch(random_batch(config), mesh)
    key = jax.random.key(0)
    lowered = definition.jit().lower(definition.abstract_state(), batch, key)
  whole = lowered.cost_analysis()["flops"]
  found = _model_flops(config, functional)
  assert found == pytest.approx(whole, rel=0.1)
  other = with_mesh(
    tiny_config(model__channels=32, model__remat=True, train__accumulate_steps=2), 2, 2, 2
  )
  assert _model_flops(other, FunctionalModel.of_model(other.model, TABLE)) == found


def test_flops_of_windows_that_attend_block_by_block_are_those_of_attention_at_once(monkeypatch):
  config = tiny_config(train__batch_windows=1)
  functional = FunctionalModel.of_model(config.model, TABLE)
  found = speed.model_flops(functional, 1, 262_144)
  in_a_loop = config.model.n_heads * config.model.key_dim * 2 * 2 * 2048**2  # at the least
  monkeypatch.setattr(speed, "_COUNTED_BP", (262_144,))
  assert speed.model_flops(functional, 1, 262_144) < found - in_a_loop / 2  # its body counts once
  for module, name in ((transformer, "WHOLE_BINS"), (pair, "WHOLE_PAIRS")):
    monkeypatch.setattr(module, name, 2048)
  assert found == pytest.approx(speed.model_flops(functional, 1, 262_144), rel=1e-4)


def test_flops_are_counted_on_the_cpu_whatever_the_run_is_on(monkeypatch):
  """JAX counts nothing for GPUs and TPUs before it compiles: `Lowered.cost_analysis` is None."""
  asked, local_devices = [], jax.local_devices
  monkeypatch.setattr(
    jax, "local_devices", lambda **of: asked.append(of) or local_devices(**of)[-1:]
  )
  assert speed.counting_mesh().devices.flat[0].platform == "cpu"
  assert asked == [{"backend": "cpu"}]


def test_a_run_without_a_cpu_device_has_no_utilisation_and_says_why(monkeypatch, caplog):
  def none(backend):
    raise RuntimeError(f"Unknown backend {backend}")

  monkeypatch.setattr(jax, "local_devices", none)
  monkeypatch.setattr(speed, "peak_flops", lambda device: 4e12)
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  config = with_mesh(tiny_config(), 8)
  assert _model_flops(config, stand_in()) == 0
  assert "JAX_PLATFORMS" in caplog.text
  assert "mfu" not in speed.utilisation(0.0, make_mesh(config.mesh))


def test_utilisation_is_against_the_peak_of_the_chip_where_it_is_known(monkeypatch):
  mesh = make_mesh(tiny_config().mesh)
  assert speed.utilisation(8e12, mesh) == {"model_flops_per_s_and_device": 1e12}
  monkeypatch.setattr(speed, "peak_flops", lambda device: 4e12)
  assert speed.utilisation(8e12, mesh)["mfu"] == 0.25


def test_goodput_is_the_share_of_each_phase_and_steps_are_the_rest():
  clock = Stopwatch()
  clock.started -= 100
  clock.seconds = {"start": 10, "compile": 20, "input": 5, "evaluation": 15}
  shares = speed.goodput(clock)
  assert sum(shares.values()) == pytest.approx(1)
  expected = {"steps": 0.5, "start": 0.1, "input": 0.05, "compile": 0.2, "checkpoint": 0}
  for name, share in {**expected, "evaluation": 0.15}.items():
    assert shares[f"goodput/{name}"] == pytest.approx(share, abs=0.01), name
  assert "steps 50.0%, start 10.0%" in speed.closing_text(clock)


class FakeClock(speed.Stopwatch):
  """A stopwatch that a test moves."""

  def __init__(self):
    super().__init__()
    self.now = 0.0

  def elapsed(self):
    return self.now

  def spend(self, seconds, phase=None):
    self.now += seconds
    if phase:
      self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds


def test_step_times_run_from_end_to_end_and_the_slowest_has_a_cause():
  clock = FakeClock()
  clock.spend(50, "start")
  times = speed.StepTimes(clock)
  assert times.whole() == times.recent() == ("", {})
  clock.spend(30, "compile")
  for step in range(1, 20):  # 31 s and 18 times 1 s
    clock.spend(1)
    times.mark(step)
  clock.spend(0.25, "input")
  clock.spend(1.75)
  times.mark(20)
  assert times.whole()[1] == {
    "median": 1, "p95": 2, "slowest": 31, "slowest_step": 1, "slowest_cause": "compile",
  }  # fmt: skip
  text = "step 1 s (95% within 2 s, slowest 31 s at 1: compiling)  "
  assert times.recent() == (
    text,
    {"step_seconds/median": 1, "step_seconds/p95": 2, "step_seconds/slowest": 31},
  )
  assert times.whole()[0] == text
  clock.spend(1)
  times.mark(21)
  assert times.recent()[1]["step_seconds/slowest"] == 1 and times.whole()[1]["slowest"] == 31


@pytest.mark.parametrize(
  ("phase", "within", "besides", "cause"),
  [
    ("evaluation", 9, 1, "evaluation"),
    ("checkpoint", 5, 5, "checkpoint"),
    ("input", 4, 6, "step"),  # explains less than half of the 9 s above the median
    (None, 0, 10, "step"),
  ],
)
def test_a_phase_is_the_cause_only_if_it_explains_half(phase, within, besides, cause):
  clock = FakeClock()
  times = speed.StepTimes(clock)
  for step in range(1, 6):
    clock.spend(1)
    times.mark(step)
  clock.spend(within, phase)
  clock.spend(besides)
  times.mark(6)
  assert times.whole()[1]["slowest_step"] == 6 and times.whole()[1]["slowest_cause"] == cause


def test_the_high_water_mark_of_memory_stays_when_memory_is_freed():
  before = hardware.host_peak_bytes()
  block = np.ones((before + 2**28) // 8)
  del block
  assert hardware.host_peak_bytes() > before + 2**27


@pytest.mark.parametrize(
  ("stats", "expected"),
  [([{}, {}], None), ([{"peak": 3}, {"peak": 7}, {"peak": 5}], 7)],
  ids=["CPU", "three devices"],
)
def test_the_fullest_device_counts(monkeypatch, stats, expected):
  monkeypatch.setattr(jax, "local_devices", lambda: stats)
  monkeypatch.setattr(hardware, "memory_bytes", lambda device: device)
  assert hardware.device_peak_bytes() == expected
  record = {"model_flops_per_s_and_device": 2e9, "goodput/steps": 0.9, **speed.memory()}
  text = speed.speed_text(record)
  assert ("GiB device" in text) == (expected is not None) and "2.0 GFLOP/s a device" in text
  assert speed.speed_text({**record, "mfu": 0.423}).startswith("MFU 42.3%  steps 90% of the time")
