"""Values that a run may start from: a checkpoint of ours, or AlphaGenome's published ones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from alphaecoli.checkpoints.arrays import read_published
from alphaecoli.checkpoints.read import find_checkpoint, hash_checkpoint, load_inference
from alphaecoli.files import AnyPath, as_path
from alphaecoli.model import alphagenome as published
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.schema import Config, ModelConfig
from alphaecoli.tracks.track_table import TrackTable, trained_heads

_ORGANISMS = (f"{published.ROOT}/embed", "embeddings")  # one row each


@dataclasses.dataclass(frozen=True)
class PretrainedValues:
  """Values to start from.

  Attributes:
    path: directory they were read from.
    sha256: hash of the checkpoint's files.
    step: steps of training done, None where the checkpoint does not say.
    params: parameters by name, LoRA factors being part of their kernels; on the devices or not.
    stats: running statistics by name.
    model: sizes of the model.
    table: tracks that the heads predict; None without heads of ours.
    trained_heads: heads that had data and a weight.
    meta: JSON item of a checkpoint of ours.
    terms: address of the terms of AlphaGenome's parameters, if these are or began with them.
  """

  path: AnyPath
  sha256: str
  step: int | None
  params: Mapping[str, Any]
  stats: Mapping[str, Any]
  model: ModelConfig
  table: TrackTable | None = None
  trained_heads: tuple[str, ...] = ()
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  terms: str | None = None


def read_pretrained(path: str, config: Config, table: TrackTable, mesh: Mesh) -> PretrainedValues:
  """Reads what `init.checkpoint` names.

  Args:
    path: a run, its checkpoints or one of them; or the directory of AlphaGenome's parameters as
      they are downloaded.
    config: configuration of the run that starts.
    table: tracks of that run.
    mesh: devices for values of ours.

  Raises:
    DataError: it is neither, is broken, or AlphaGenome's parameters do not fit the model.
  """
  root = as_path(path).expanduser()
  if (root / "manifest.ocdbt").is_file():
    return _read_published(root, config.model, table)
  found = as_path(find_checkpoint(root))
  loaded = load_inference(found, mesh=mesh)
  # Factors are part of the loaded module's kernels: it splits as a model without any.
  functional = FunctionalModel.of_model(loaded.config.model, loaded.table, loaded.model.heads)
  params, stats = functional.split(loaded.model)
  return PretrainedValues(
    path=found,
    sha256=hash_checkpoint(found),
    step=loaded.step,
    params=params,
    stats=stats,
    model=loaded.config.model,
    table=loaded.table,
    trained_heads=trained_heads(loaded.config.loss.weights, loaded.table),
    meta=loaded.meta,
    terms=loaded.meta.get("init", {}).get("terms"),
  )


def _read_published(root: AnyPath, config: ModelConfig, table: TrackTable) -> PretrainedValues:
  """Reads AlphaGenome's parameters under our names; whatever number of organisms they have."""
  params, state = read_published(root)
  module, name = _ORGANISMS
  organisms = len(params.get(module, {}).get(name, ())) or config.n_organisms
  sizes = dataclasses.replace(config, n_organisms=organisms)
  functional = FunctionalModel.of_model(sizes, table)
  paths = published.convert(params, state, functional.module(), sizes)
  values = {"/".join(map(str, path)): value for path, value in paths.items()}
  # Hidden files belong to whoever downloaded the others.
  files = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
  return PretrainedValues(
    path=root,
    sha256=hash_checkpoint(root, files),
    step=None,
    params={name: value for name, value in values.items() if name in functional.params},
    stats={name: value for name, value in values.items() if name in functional.stats},
    model=sizes,
    terms=published.TERMS,
  )
