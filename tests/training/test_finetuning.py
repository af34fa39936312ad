"""A whole fine-tuning run of the tiny AlphaEcoli, from a checkpoint to a prediction."""

import numpy as np
import orbax.checkpoint as ocp
import pytest

import alphaecoli
from alphaecoli.checkpoints.read import load_inference, read_meta
from alphaecoli.model.finetuning import factor_names, head_of
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.training.run import train_on
from tests.training.small import save_checkpoint, tiny_config, with_mesh


def _train(store, workdir, mesh, **overrides):
  workdir.mkdir(exist_ok=True)
  config = with_mesh(tiny_config(**overrides), *mesh)
  functional = FunctionalModel.of_config(config, store.table)
  assert train_on(store, config, workdir, functional) == 0
  return functional


def _values(workdir, step, item):
  with ocp.StandardCheckpointer() as reader:
    return reader.restore((workdir / "checkpoints" / str(step) / item).absolute())


@pytest.mark.slow
def test_a_model_is_tuned_resumed_on_another_mesh_and_used(store, tmp_path):
  base, tuned = tmp_path / "base", tmp_path / "tuned"
  before, stats = save_checkpoint(base, tiny_config(), trained_on=[])
  tuning = {"init__checkpoint": str(base), "init__freeze": "trunk", "init__lora_rank": 2}
  _train(store, tuned, (4, 2), train__steps=2, model__remat=True, **tuning)
  functional = _train(store, tuned, (1, 8), train__steps=4, model__remat=True, **tuning)
  after = _values(tuned, 4, "params")
  for name, value in before.items():
    if head_of(name) is None:
      np.testing.assert_array_equal(after[name], value, err_msg=name)
  found = _values(tuned, 4, "stats")
  for name, value in stats.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  moments = _values(tuned, 4, "train")["opt_state"][1]["mu"]
  factors = {factor for kernel in functional.lora_kernels for factor in factor_names(kernel)}
  assert set(moments) == factors | {name for name in before if head_of(name)}
  meta = read_meta(tuned / "checkpoints" / "4")
  assert meta["init"]["step"] == 7 and meta["init"]["held_out_bp_seen"]["test"] == 0
  kernel = "tower/layers/0/mlp/expand/kernel"
  merged = load_inference(tuned).model.tower.layers[0].mlp.expand.kernel[...]
  assert (np.asarray(merged) != np.asarray(after[kernel])).any()
  prediction = alphaecoli.load_predictor(tuned).predict("ACGT" * 700)
  assert np.isfinite(prediction.gene_expression).all()
