"""model.remat_policy "auto": what the backward pass computes anew, by the memory of the device."""

import jax
import pytest

from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.training import run
from tests.training.small import stand_in, tiny_config, with_mesh

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
