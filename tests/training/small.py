"""A small store, configuration and stand-in model for the tests of training."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alphaecoli import config as configuration
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.config import TEST_MODE
from alphaecoli.data.pipeline import configured_batches
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.layers import Keys, Linear, RMSBatchNorm
from alphaecoli.schema import HEADS, Config, InitConfig, MeshConfig
from alphaecoli.tracks.store import WEIGHTED
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable
from alphaecoli.training.loop import state_items
from alphaecoli.training.step import TrainState

WINDOW_BP = 2048
TINY = {
  **TEST_MODE,
  "data.window_bp": WINDOW_BP,
  "data.read_threads": 0,
  "model.channels": 8,
  "model.channel_step": 8,
  "model.n_layers": 1,
  "train.steps": 8,
  "train.batch_windows": 8,
  "checkpoint.every_steps": 4,
  "evaluation.every_steps": 8,
  "evaluation.batch_windows": 8,
  "log.every_steps": 2,
  "log.tensorboard": False,
  "log.compilation_cache": False,
}
TABLE = TrackTable((ExpressionTrack("mean", ".", ("a",), 2.0, 1.5),), 1.0, 0.5, True, True)


def tiny_config(**overrides: Any) -> Config:
  """TINY with overrides such as train__steps=4."""
  base = configuration.base_config()
  changes = {key.replace("__", "."): value for key, value in overrides.items()}
  configuration.apply_overrides(base, {**TINY, **changes})
  return configuration.resolve(base)


class StandIn(nnx.Module):
  """Two linear layers with a batch norm between them: the model's interface, quick to compile."""

  def __init__(self, rngs: Keys, norm: bool = True, dropout: float = 0.0):
    self.first = Linear(4, 16, rngs=rngs)
    self.norm = RMSBatchNorm(16, decay=0.9, rngs=rngs)
    self.expression = Linear(16, 1, rngs=rngs)
    self.density = Linear(16, 1, rngs=rngs)
    self.operon = Linear(16, 1, rngs=rngs)
    self.structure = Linear(16, 8, rngs=rngs)
    self.junction = Linear(16, 2, rngs=rngs)
    self.uses_norm, self.dropout = norm, dropout

  def __call__(
    self,
    sequence: Any,
    organism: Any,
    *,
    train: bool = False,
    dropout_key: Any = None,
    tower_bp: tuple[int, int] | None = None,
  ) -> dict[str, Any]:
    """Computes raw outputs; it sees single bases, so that windows and stretches are alike."""
    x = jax.nn.gelu(self.first(jax.nn.one_hot(sequence, 4)))
    normed = self.norm(x, train=train)
    x = normed if self.uses_norm else x
    if dropout_key is not None:
      x = jnp.where(jax.random.bernoulli(dropout_key, 1 - self.dropout, x.shape), x, 0)
    return {
      "gene_expression": self.expression(x),
      "gene_density": self.density(x[:, ::128]),
      "operon_membership": self.operon(x),
      "gene_structure": self.structure(x),
      "operon_junction": self.junction(x),
    }


def init_config(**values: Any) -> InitConfig:
  """The init section of configs/base.py with other values."""
  return dataclasses.replace(tiny_config().init, **values)


def stand_in(**options: Any) -> FunctionalModel:
  """The functional of StandIn."""
  return FunctionalModel.of(lambda key: StandIn(Keys(key), **options))


def random_batch(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
  """A batch of random bases and targets; windows differ in how much of them is known."""
  rng = np.random.default_rng(seed)
  rows, length = config.train.batch_windows, config.data.window_bp
  batch = {
    "sequence": rng.integers(0, 5, (rows, length)).astype(np.uint8),
    "organism": np.zeros(rows, np.int32),
    "start": np.arange(rows, dtype=np.int32) * 1000,
    "reverse": np.arange(rows) % 2 == 1,
  }
  share = np.linspace(0.05, 0.95, rows)[:, None, None]
  for head in HEADS.values():
    n, channels = length // head.resolution_bp, head.channels or 1
    regions = rng.integers(0, 2, (rows, 8, 1))  # as long as genes
    regions = (regions ^ (np.arange(channels) % 2)).astype(np.float32)
    batch[head.name] = np.repeat(regions, n // 8, axis=1)
    batch[f"{head.name}_known"] = rng.random((rows, n, channels)) < (share if rows > 1 else 0.5)
  for head in WEIGHTED:
    size = 2.0 ** rng.integers(4, 10, (rows, 8, HEADS[head].channels or 1))
    batch[f"{head}_weight"] = np.repeat(1 / size, length // 8, axis=1).astype(np.float32)
  return batch


def stream(config: Config, store: Any, first_step: int = 0, **options: Any) -> Any:
  """The training batches of a configuration."""
  return configured_batches(store, config, first_step=first_step, threads=0, **options)


def with_mesh(config: Config, data: int, fsdp: int = 1, sequence: int = 1) -> Config:
  """The same configuration on another mesh."""
  mesh = MeshConfig(data=data, fsdp=fsdp, sequence=sequence)
  return dataclasses.replace(config, mesh=mesh)


def random_values(functional: FunctionalModel, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
  """Random parameters and statistics, without compiling anything."""
  rng = np.random.default_rng(seed)
  params, stats = (
    {n: rng.uniform(0.5, 1, v.get_value().shape).astype(np.float32) for n, v in part.items()}
    for part in (functional.params, functional.stats)
  )
  return params, stats


def save_checkpoint(
  workdir: Path, config: Config, table: TrackTable = TABLE, seed: int = 5, **meta: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
  """A checkpoint of a model with random values; returns those."""
  functional = FunctionalModel.of_config(config, table)
  params, stats = random_values(functional, seed)
  state = TrainState(jnp.int32(7), params, stats, {"moments": jnp.zeros(1)}, {})
  meta = {"config": config.to_dict(), "table": table.to_json(), "store_fingerprint": "f", **meta}
  with Checkpoints(workdir / "checkpoints", keep_last=1, keep_best=0) as checkpoints:
    checkpoints.save(7, state_items(state), meta)
  return params, stats
