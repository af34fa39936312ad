"""What the backward pass computes anew: by the memory of the device with "auto", and its effect."""

import jax
import pytest
from flax import nnx

from alphaecoli.model.convolutions import ConvBlock
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.layers import Keys, Linear, run_block
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.training import run
from alphaecoli.training.step import StepDefinition
from tests.training.small import StandIn, stand_in, tiny_config, with_mesh

NEEDED = {"": 1000, "products": 500, "blocks": 200}


def settled(store, **changes):
  config = with_mesh(tiny_config(**{"model__remat": True, **changes}), 8)
  return run.settle_remat(config, Organisms.of([store]), make_mesh(config.mesh)).model


@pytest.mark.parametrize(
  ("limit", "chosen"),
  [(1200, ""), (1100, "products"), (400, "blocks"), (10, "blocks"), (None, "")],
  ids=["all fits", "not all", "little", "nothing fits", "a device that does not tell"],
)
def test_auto_is_the_fastest_setting_that_fits(monkeypatch, store, limit, chosen):
  def step_bytes(config, *rest):
    assert limit and config.model.recomputed != "blocks", "compiled for nothing"
    return NEEDED[config.model.recomputed]

  monkeypatch.setattr(run, "memory_bytes", lambda device: {"limit": limit} if limit else {})
  monkeypatch.setattr(run, "_step_bytes", step_bytes)
  assert settled(store, model__remat_policy="auto").recomputed == chosen


def test_what_is_said_is_kept(monkeypatch, store):
  monkeypatch.setattr(run, "memory_bytes", None)
  assert settled(store).recomputed == "blocks"
  assert settled(store, model__remat_policy="products").recomputed == "products"
  assert settled(store, model__remat=False, model__remat_policy="auto").recomputed == ""


def test_the_step_is_compiled_to_see_what_it_needs(monkeypatch, store):
  monkeypatch.setattr(FunctionalModel, "of_config", lambda *_: stand_in())
  config = with_mesh(tiny_config(), 8)
  organisms, mesh = Organisms.of([store]), make_mesh(config.mesh)
  # Activations of 16 features in float32 for each base of this device's window.
  needed = run._step_bytes(config, organisms, mesh)
  assert 16 * 4 * config.data.window_bp < needed < 2**24

  def too_large(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 2G of 1G hbm")

  monkeypatch.setattr(run, "planned_bytes", too_large)
  assert run._step_bytes(config, organisms, mesh) == float("inf")


class Deep(nnx.Module):
  """A linear layer and convolution blocks as of the published model."""

  def __init__(self, remat, rngs):
    self.remat, self.linear = remat, Linear(4, 16, rngs=rngs)
    blocks = [ConvBlock(16, 16, 5, tiny_config().model, rngs=rngs) for _ in range(4)]
    self.blocks = nnx.List(blocks)

  def __call__(self, x):
    x = self.linear(x)
    for block in self.blocks:
      x = run_block(block, x, train=True, remat=self.remat)
    return x


def deep_stand_in(remat, rngs):
  model = StandIn(rngs)
  model.first = Deep(remat, rngs)
  return model


@pytest.mark.parametrize("policy", ["blocks", "products"])
def test_what_is_computed_anew_is_not_kept_on_cpus_either(store, policy):
  config = tiny_config()
  mesh = make_mesh(config.mesh, jax.devices()[:1])

  def planned(remat):
    functional = FunctionalModel.of(lambda key: deep_stand_in(remat, Keys(key)))
    definition = StepDefinition.of_config(config, store.table, mesh, functional)
    with jax.set_mesh(mesh):
      step = definition.jit().lower(*definition.abstract_inputs(config, store)).compile()
    return step.memory_analysis().temp_size_in_bytes

  print(planned(policy), planned(""))
  assert planned(policy) < 0.8 * planned("")
