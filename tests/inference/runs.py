"""A run that has saved a small, untrained model once."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from alphaecoli import config as configuration
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.config import TEST_MODE
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.layers import Keys
from alphaecoli.model.model import AlphaEcoli
from tests.inference.standin import TABLE

WINDOW_BP = 4096
RUN = configuration.base_config()
configuration.apply_overrides(RUN, TEST_MODE)
CONFIG = configuration.resolve(RUN)
TINY = dataclasses.replace(CONFIG.model, channels=8, channel_step=4, n_layers=1)


def tiny_model(seed: int = 0) -> AlphaEcoli:
  return nnx.jit(lambda: AlphaEcoli(TINY, TABLE, rngs=Keys(jax.random.key(seed))))()


def save_run(folder: Path, model: AlphaEcoli | None = None) -> Path:
  """Saves a model as step 7 of a run; returns the run's directory.

  The configuration names the weights of the model's heads alone, as that of earlier versions does.
  """
  model = tiny_model() if model is None else model
  data = dataclasses.replace(CONFIG.data, window_bp=WINDOW_BP)
  config = dataclasses.replace(CONFIG, data=data, model=TINY)
  params, stats = FunctionalModel.of_model(TINY, TABLE, model.heads).split(model)
  items = {"params": params, "stats": stats, "train": {"step": jnp.array(7)}}
  values = config.to_dict()
  values["loss"]["weights"] = {name: values["loss"]["weights"][name] for name in model.heads}
  meta = {"config": values, "table": TABLE.to_json()}
  with Checkpoints(folder / "checkpoints", keep_last=1, keep_best=0) as checkpoints:
    checkpoints.save(7, items, meta)
    checkpoints.wait()
  return folder
