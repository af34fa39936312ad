"""Checkpoints on disk: complete or absent, read on any devices; checkpoints/write.py writes.

A checkpoint is a directory named after its step with one item each for `params`, `stats` (running
statistics), `train` (step and optimiser; where parameters are averaged, those of training too) and
`meta` (JSON: configuration, track table, data position, store fingerprint, versions). Layout and
promises: docs/training.md.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from alphaecoli.checkpoints.orbax_errors import BROKEN, clear_after_error, one_line
from alphaecoli.config import heads_of, resolve, with_new_keys
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import version
from alphaecoli.genomics.operon_pairs import PairModel
from alphaecoli.model.alphagenome import Tree
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.model import AlphaEcoli
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import Config, MeshConfig
from alphaecoli.tracks.track_table import TrackTable, TrainedOrganism, organisms_of

FORMAT = "alphaecoli-checkpoint"
FORMAT_VERSION = 1
SCORE = "loss/total"  # on validation, lower is better; "best" means by this
CHECKPOINTS_DIR = "checkpoints"  # within a work directory
PAIR_MODELS = "pair_models"  # in the meta item: by organism, what PairModel.to_json returns
ENSEMBLE_FILE, ENSEMBLE_FORMAT, ENSEMBLE_VERSION = "ensemble.json", "alphaecoli-ensemble", 1


@dataclasses.dataclass(frozen=True)
class LoadedCheckpoint:
  """A checkpoint ready for inference.

  Attributes:
    model: model with parameters and running statistics.
    config: configuration of the training run.
    table: names, units, transform and statistics of its tracks; where it has several organisms,
      their means.
    organisms: each with its own table, by row of the embedding.
    step: number of steps done.
    path: directory of that step.
    meta: JSON item.
  """

  model: AlphaEcoli
  config: Config
  table: TrackTable
  organisms: tuple[TrainedOrganism, ...]
  step: int
  path: Path
  meta: dict[str, Any]


def pair_model_of(meta: Mapping[str, Any], organism: str) -> PairModel | None:
  """Returns the pair model of an organism that a checkpoint's JSON item holds, if there is one."""
  return PairModel.from_json(meta.get(PAIR_MODELS, {}).get(organism))


def describe_format() -> dict[str, Any]:
  """Returns format and software, for the meta item."""
  packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
  versions = {"alphaecoli": version()}
  versions |= {name: importlib.metadata.version(name) for name in packages}
  return {
    "format": FORMAT,
    "format_version": FORMAT_VERSION,
    "score": SCORE,
    "versions": versions,
  }


def read_item(path: Any, abstract: Any) -> Any:
  """Reads the arrays of one item that this process holds, onto the devices that `abstract` names.

  Each process reads for itself: none waits for another, which may have failed.
  """
  index = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process {index}"
  )
  with (
    clear_after_error(),
    ocp.StandardCheckpointer(multiprocessing_options=alone) as reader,
  ):
    return reader.restore(epath.Path(path).absolute(), abstract)


def read_meta(path: Any) -> dict[str, Any]:
  """Reads the JSON item of a checkpoint.

  Raises:
    DataError: it is missing, broken or of another format.
  """
  file = epath.Path(path) / "meta" / "metadata"
  if not file.exists():
    raise DataError(f"{path} is not a complete checkpoint: it has no meta/metadata")
  try:
    meta = json.loads(file.read_text())
  except ValueError as error:
    raise DataError(f"{file} is not JSON: {error}") from error
  if not isinstance(meta, dict) or meta.get("format") != FORMAT:
    raise DataError(f"{path} is not an alphaecoli checkpoint")
  if meta["format_version"] != FORMAT_VERSION:
    raise DataError(
      f"{path} has format version {meta['format_version']}; this version of alphaecoli "
      f"({version()}) reads {FORMAT_VERSION}; the checkpoint was written by "
      f"{meta['versions']['alphaecoli']}"
    )
  return meta


def read_score(path: Any) -> float | None:
  """Reads the validation loss of a checkpoint, None where it was not measured."""
  file = epath.Path(path) / "metrics" / "metrics"
  if not file.exists():
    return None
  try:
    return float(json.loads(file.read_text())[SCORE])
  except (ValueError, KeyError, TypeError):
    return None


def find_checkpoint(path: str | Path, which: str = "best") -> epath.Path:
  """Finds the directory of one checkpoint.

  Args:
    path: a work directory, its checkpoints directory or the directory of one step.
    which: choice among several: the "best" on validation (the newest where none was measured) or
      the "latest".

  Raises:
    DataError: there is none, or the path is an ensemble's.
  """
  root = epath.Path(path)
  if (ensemble := find_ensemble(root)) is not None:
    raise DataError(
      f"{path} is an ensemble, and one checkpoint is needed here: name a member, such as "
      f"{_member_paths(ensemble)[0]}"
    )
  if not root.is_dir():
    raise DataError(f"no checkpoint: {path} is not a directory")
  if (root / "params").is_dir() or (root / "meta").is_dir():
    return root
  root = root / CHECKPOINTS_DIR if (root / CHECKPOINTS_DIR).is_dir() else root
  steps = sorted((p for p in root.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
  if not steps:
    partial = any("checkpoint-tmp" in p.name for p in root.iterdir())
    why = "only an unfinished one" if partial else "no directories named after a step"
    raise DataError(f"no checkpoint in {root}: {why}; train first, or name another directory")
  scores = {p: read_score(p) for p in steps} if which == "best" else {}
  measured = [(score, p) for p, score in scores.items() if score is not None]
  return min(measured, key=lambda pair: pair[0])[1] if measured else steps[-1]


def find_ensemble(path: Any) -> epath.Path | None:
  """Finds the file of an ensemble: the path, or ensemble.json in a folder that is not a run's.

  Returns:
    None where the path is not an ensemble's.
  """
  root = epath.Path(path)
  if root.is_file():
    return root if root.suffix == ".json" else None
  of_run = any((root / name).is_dir() for name in (CHECKPOINTS_DIR, "params", "meta"))
  return root / ENSEMBLE_FILE if (root / ENSEMBLE_FILE).is_file() and not of_run else None


def read_ensemble(file: Any) -> list[epath.Path]:
  """Reads which checkpoints are the members of an ensemble.

  Raises:
    DataError: the file is broken or of another version, or a member is missing or named twice.
  """
  found: list[epath.Path] = []
  for path in _member_paths(file):
    try:
      found.append(find_checkpoint(str(path)))
    except DataError as error:
      raise DataError(f"{file}: member {path}: {error}") from error
  if len(set(found)) < len(found):
    raise DataError(f"{file} names a checkpoint twice; expected each member once")
  return found


def _member_paths(file: Any) -> list[epath.Path]:
  """Reads the paths in the file of an ensemble, which are relative to its folder."""
  try:
    content = json.loads(file.read_text())
  except ValueError as error:
    raise DataError(f"{file} is not JSON: {error}") from error
  described = content if isinstance(content, dict) else {}
  expected = {"format": ENSEMBLE_FORMAT, "format_version": ENSEMBLE_VERSION}
  if (wrong := {key: described.get(key) for key in expected}) != expected:
    raise DataError(f"{file} is not an ensemble that this version reads: {wrong}, not {expected}")
  names = described.get("members")
  if not (isinstance(names, list) and len(names) > 1 and all(isinstance(n, str) for n in names)):
    raise DataError(f'{file}: expected "members", a list of at least two paths of checkpoints')
  return [file.parent / name for name in names]


def load_inference(path: str | Path, which: str = "best", mesh: Any = None) -> LoadedCheckpoint:
  """Reads parameters and running statistics alone, on any devices.

  Args:
    path: directory, as for `find_checkpoint`.
    which: choice among several, as for `find_checkpoint`.
    mesh: devices for the parameters; by default the first one.

  Raises:
    DataError: there is no checkpoint, or it is broken.
  """
  found = find_checkpoint(path, which)
  meta, config, table = read_description(found)
  functional = FunctionalModel.of_config(config, table, heads_of(meta["config"]))
  devices = jax.local_devices()[:1]
  mesh = make_mesh(MeshConfig(data=1, fsdp=1, sequence=1), devices) if mesh is None else mesh
  params, stats = functional.abstract(mesh)
  values = []
  for name, abstract in (("params", params), ("stats", stats)):
    try:
      values.append(read_item(found / name, abstract))
    except BROKEN as error:
      raise DataError(f"{found}: {name} can not be read: {one_line(error)}") from error
  return LoadedCheckpoint(
    model=functional.merge(*values),
    config=config,
    table=table,
    organisms=organisms_of(meta),
    step=int(meta["step"]),
    path=Path(found),
    meta=meta,
  )


def read_description(path: Any) -> tuple[dict[str, Any], Config, TrackTable]:
  """Reads the JSON item of a checkpoint, the configuration of its run and its tracks.

  Raises:
    DataError: it is broken, or of a version that this one does not understand.
  """
  meta = read_meta(path)
  try:
    config, table = resolve(with_new_keys(meta["config"])), TrackTable.from_json(meta["table"])
  except (ConfigError, KeyError, TypeError) as error:
    raise DataError(
      f"{path} was written by alphaecoli {meta['versions']['alphaecoli']} and does not fit "
      f"{version()}: {error}"
    ) from error
  return meta, config, table


def read_published(root: Path) -> tuple[Tree, Tree]:
  """Reads parameters and running statistics of the published checkpoint, as arrays of the host.

  It is what orbax's StandardCheckpointer writes of haiku's (params, state). Source:
  google-deepmind/alphagenome_research, model/dna_model.py, create.

  Raises:
    DataError: it can not be read, or holds something else.
  """
  try:
    with clear_after_error(), ocp.PyTreeCheckpointer() as reader:
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


def hash_checkpoint(path: Any, items: Iterable[str] = ("params", "stats", "meta")) -> str:
  """Computes the SHA-256 of a checkpoint: names and contents of the files of its items, in order.

  Args:
    path: directory of one step; any directory will do.
    items: files and folders in it.
  """
  root, total = epath.Path(path), hashlib.sha256()
  for file in _files_of(root / item for item in items):
    total.update(f"{file.relative_to(root)}\n".encode())
    total.update(file.read_bytes())
  return total.hexdigest()


def _files_of(paths: Iterable[epath.Path]) -> Iterator[epath.Path]:
  """Yields files, and those of folders within, in order."""
  for path in paths:
    if path.is_dir():
      yield from _files_of(sorted(path.iterdir()))
    elif path.exists():
      yield path
