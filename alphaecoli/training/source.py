"""What a run may start from: a checkpoint of ours, or AlphaGenome's published parameters."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from alphaecoli.checkpoint import find_checkpoint, load_inference
from alphaecoli.errors import DataError
from alphaecoli.inference.forward import trained_heads
from alphaecoli.model import published
from alphaecoli.model.skeleton import Skeleton
from alphaecoli.quiet import BROKEN, one_error_is_enough, one_line
from alphaecoli.schema import Config, ModelConfig
from alphaecoli.tracks.table import TrackTable

_ORGANISMS = (f"{published.ROOT}/embed", "embeddings")  # one row each


@dataclasses.dataclass(frozen=True)
class Source:
  """Values to start from.

  Attributes:
    path: the directory they were read from.
    sha256: of its arrays' files.
    step: steps of training done, None where it does not say.
    params: parameters by name, factors being part of their kernels; on the devices or not.
    stats: running statistics by name.
    model: its sizes.
    table: of the tracks its heads predict; None without heads of ours.
    trained_heads: heads that had data and a weight.
    meta: the JSON item of a checkpoint of ours.
    terms: where to read those of AlphaGenome's parameters, if it is or began with them.
  """

  path: Path
  sha256: str
  step: int | None
  params: Mapping[str, Any]
  stats: Mapping[str, Any]
  model: ModelConfig
  table: TrackTable | None = None
  trained_heads: tuple[str, ...] = ()
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  terms: str | None = None


def read_source(path: str, config: Config, table: TrackTable, mesh: Mesh) -> Source:
  """Reads what `init.from` names.

  Args:
    path: a run, its checkpoints or one of them; or the directory of AlphaGenome's parameters as
      they are downloaded.
    config: of the run that starts.
    table: its tracks.
    mesh: where values of ours go.

  Raises:
    DataError: it is neither, is broken, or AlphaGenome's parameters do not fit the model.
  """
  root = Path(path).expanduser()
  if (root / "manifest.ocdbt").is_file():
    return _read_published(root, config.model, table)
  found = Path(find_checkpoint(root))
  loaded = load_inference(found, mesh=mesh)
  # Factors are part of the loaded module's kernels: it splits as a model without any.
  skeleton = Skeleton.of_model(loaded.config.model, loaded.table)
  params, stats = skeleton.split(loaded.model)
  return Source(
    path=found,
    sha256=hash_files(found / "params", found / "stats"),
    step=loaded.step,
    params=params,
    stats=stats,
    model=loaded.config.model,
    table=loaded.table,
    trained_heads=trained_heads(loaded.config, loaded.table),
    meta=loaded.meta,
    terms=loaded.meta.get("init", {}).get("terms"),
  )


def _read_published(root: Path, config: ModelConfig, table: TrackTable) -> Source:
  """AlphaGenome's parameters under our names; whatever number of organisms they have."""
  params, state = read_published(root)
  module, name = _ORGANISMS
  organisms = len(params.get(module, {}).get(name, ())) or config.n_organisms
  sizes = dataclasses.replace(config, n_organisms=organisms)
  skeleton = Skeleton.of_model(sizes, table)
  paths = published.convert(params, state, skeleton.module(), sizes)
  values = {"/".join(map(str, path)): value for path, value in paths.items()}
  return Source(
    path=root,
    sha256=hash_files(root),
    step=None,
    params={name: value for name, value in values.items() if name in skeleton.params},
    stats={name: value for name, value in values.items() if name in skeleton.stats},
    model=sizes,
    terms=published.TERMS,
  )


def read_published(root: Path) -> tuple[published.Tree, published.Tree]:
  """Parameters and running statistics of the published checkpoint, as arrays of the host.

  It is what orbax's StandardCheckpointer writes of haiku's (params, state). Source:
  google-deepmind/alphagenome_research, model/dna_model.py, create.

  Raises:
    DataError: it can not be read, or holds something else.
  """
  try:
    with one_error_is_enough(), ocp.PyTreeCheckpointer() as reader:
      described = reader.metadata(root.absolute()).item_metadata
      if described is None:
        raise DataError(f"{root} can not be read: its _METADATA is broken; download it again")
      # On the host: the devices that the file names are those it was written on.
      host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), described.tree)
      tree = reader.restore(root.absolute(), restore_args=host)
  except BROKEN as error:
    raise DataError(f"{root} can not be read: {one_line(error)}") from error
  if not isinstance(tree, list | tuple) or len(tree) != 2:
    raise DataError(
      f"{root} is an orbax checkpoint of something else; expected AlphaGenome's (parameters, "
      "state), or a checkpoint of alphaecoli"
    )
  return tree[0], tree[1]


def hash_files(*roots: Path) -> str:
  """SHA-256 over the names and contents of all files under some directories."""
  digest = hashlib.sha256()
  for root in roots:
    for name, file in sorted(_files(epath.Path(root), "")):
      digest.update(f"{name}\n".encode())
      digest.update(hashlib.sha256(file.read_bytes()).digest())
  return digest.hexdigest()


def _files(folder: epath.Path, prefix: str) -> Iterator[tuple[str, epath.Path]]:
  """Files by relative name; hidden ones belong to whoever downloaded them."""
  for entry in folder.iterdir():
    if entry.name.startswith("."):
      continue
    if entry.is_dir():
      yield from _files(entry, f"{prefix}{entry.name}/")
    else:
      yield prefix + entry.name, entry
