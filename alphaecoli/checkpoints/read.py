"""Checkpoints on disk: complete or absent, read on any devices; checkpoints/write.py writes.

A checkpoint is a directory named after its step with one item each for `params`, `stats` (running
statistics), `train` (step and optimiser; where parameters are averaged, those of training too) and
`meta` (JSON: configuration, track table, data position, store fingerprint, versions). The items of
arrays have a list of their files' checksums, the JSON files their own. Layout and promises:
docs/training.md. One for prediction alone has its arrays in one file (checkpoints/packed.py).
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from etils import epath

from alphaecoli import __version__
from alphaecoli.checkpoints.arrays import is_complete
from alphaecoli.checkpoints.packed import WEIGHTS, read_values
from alphaecoli.config import heads_of, resolve, with_new_keys
from alphaecoli.errors import ConfigError, DataError, brief, reason_of
from alphaecoli.files import (
  CHECKSUM,
  AnyPath,
  as_path,
  contents_of,
  is_whole,
  read_json,
  storage_errors,
  write_text,
)
from alphaecoli.genomics.gene_models import GeneModels
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import Config, MeshConfig
from alphaecoli.tracks.track_table import TrackTable, TrainedOrganism, organisms_of

LOGGER = logging.getLogger(__name__)
FORMAT = "alphaecoli-checkpoint"
FORMAT_VERSION = 1
SCORE = "loss/total"  # on validation, lower is better; "best" means by this
CHECKPOINTS_DIR = "checkpoints"  # within a work directory
GENE_MODELS = "gene_models"  # in the meta item: by organism, what GeneModels.to_json returns
_PAIR_MODELS = "pair_models"  # of earlier versions, by organism: those of pairs alone
ENSEMBLE_FILE, ENSEMBLE_FORMAT, ENSEMBLE_VERSION = "ensemble.json", "alphaecoli-ensemble", 1


@dataclasses.dataclass(frozen=True)
class LoadedCheckpoint:
  """A checkpoint for inference, whose arrays are read, or found broken, when they are asked for.

  Attributes:
    config: configuration of the training run.
    table: names, units, transform and statistics of its tracks; where it has several organisms,
      their means.
    organisms: each with its own table, by row of the embedding.
    step: number of steps done.
    path: directory of that step.
    meta: JSON item.
    mesh: devices for the arrays.
  """

  config: Config
  table: TrackTable
  organisms: tuple[TrainedOrganism, ...]
  step: int
  path: AnyPath
  meta: dict[str, Any]
  mesh: Any

  @functools.cached_property
  def functional(self) -> Any:
    """Returns the FunctionalModel, with the LoRA factors of the run."""
    from alphaecoli.model.functional import FunctionalModel  # flax: half a second

    return FunctionalModel.of_config(self.config, self.table, heads_of(self.meta["config"]))

  @functools.cached_property
  def model(self) -> Any:
    """Returns the AlphaEcoli with parameters and running statistics."""
    return self.functional.without_factors().merge(*self.values())

  def values(self, abstract: Any = None) -> Any:
    """Reads parameters, LoRA factors being added to their kernels, and running statistics.

    Args:
      abstract: shapes, types and shardings of both, by name, where they are known already.
    """
    if self.config.init.lora_rank:
      own = self.functional
      return own.split(own.merge(*self._read(own.abstract(self.mesh))))
    return self._read(self.functional.abstract(self.mesh) if abstract is None else abstract)

  def _read(self, abstract: Any) -> list[Any]:
    """Reads the arrays as they are on disk."""
    with _naming_others(self.path):
      return read_values(self.path, self.meta, {"params": abstract[0], "stats": abstract[1]})


def gene_models_of(meta: Mapping[str, Any], organism: str) -> GeneModels:
  """Returns the gene models of an organism that a checkpoint's JSON item holds."""
  if GENE_MODELS in meta:
    return GeneModels.from_json(meta[GENE_MODELS].get(organism, {}))
  return GeneModels.from_json({"pairs": meta.get(_PAIR_MODELS, {}).get(organism)})


def describe_format() -> dict[str, Any]:
  """Returns format and software, for the meta item."""
  packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
  versions = {"alphaecoli": __version__}
  versions |= {name: importlib.metadata.version(name) for name in packages}
  return {
    "format": FORMAT,
    "format_version": FORMAT_VERSION,
    "score": SCORE,
    "versions": versions,
  }


def read_meta(path: Any) -> dict[str, Any]:
  """Reads the JSON item of a checkpoint.

  Raises:
    DataError: it is missing, broken or of another format.
  """
  file = epath.Path(path) / "meta" / "metadata"
  if not file.exists():
    raise DataError(f"{path} is not a complete checkpoint: it has no meta/metadata")
  meta = read_json(file)
  if not isinstance(meta, dict) or meta.get("format") != FORMAT:
    raise DataError(f"{path} is not an alphaecoli checkpoint")
  if CHECKSUM in meta and not is_whole(meta):
    raise DataError(f"{file}: not what was written (another checksum)")
  if meta.get("format_version") != FORMAT_VERSION:
    raise DataError(
      f"{path} has format version {brief(meta.get('format_version'))}; this version of alphaecoli "
      f"({__version__}) reads {FORMAT_VERSION}; the checkpoint was written by {_writer(meta)}"
    )
  return meta


def _writer(meta: Mapping[str, Any]) -> str:
  """Returns the version of alphaecoli that wrote a checkpoint."""
  versions = meta.get("versions")
  return str(versions.get("alphaecoli")) if isinstance(versions, dict) else "an unknown version"


def read_score(path: Any) -> float | None:
  """Reads the validation loss of a checkpoint, None where it was not measured."""
  file = epath.Path(path) / "metrics" / "metrics"
  try:
    scores = read_scores(file)
    return float(scores[SCORE]) if SCORE in scores else None
  except (*storage_errors(), ValueError, TypeError):
    LOGGER.warning("%s is damaged or missing: this checkpoint counts as not measured", file)
    return None


def read_scores(file: Any) -> dict[str, Any]:
  """Reads the file of a checkpoint's validation loss.

  Raises:
    OSError: it can not be read.
    ValueError: it is not what was written.
  """
  scores = json.loads(file.read_text())
  known = isinstance(scores, dict) and scores.keys() <= {SCORE, CHECKSUM}
  if not known or (CHECKSUM in scores and not is_whole(scores)):
    raise ValueError(f"{file}: not what was written")
  return scores


def mend_scores(directory: epath.Path) -> None:
  """Empties broken files of scores, with which the other checkpoints could not be read either."""
  for meta in directory.glob("*/meta/metadata") if jax.process_index() == 0 else ():
    file = meta.parent.parent / "metrics" / "metrics"
    try:
      read_scores(file)
    except (*storage_errors(), ValueError):
      LOGGER.error("%s is damaged or missing: this checkpoint counts as not measured", file)
      file.parent.mkdir(exist_ok=True)
      write_text(file, "{}")


def find_checkpoint(path: str | AnyPath, which: str = "best") -> epath.Path:
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
  steps = [step for step in steps if is_complete(step)]
  if not steps:
    partial = any("checkpoint-tmp" in p.name or p.name.isdigit() for p in root.iterdir())
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
    except (DataError, *storage_errors()) as error:
      raise DataError(f"{file}: member {str(path)[:300]}: {reason_of(error)}") from error
  if len(set(found)) < len(found):
    raise DataError(f"{file} names a checkpoint twice; expected each member once")
  return found


def _member_paths(file: Any) -> list[epath.Path]:
  """Reads the paths in the file of an ensemble, which are relative to its folder."""
  content = read_json(file)
  described = content if isinstance(content, dict) else {}
  expected = {"format": ENSEMBLE_FORMAT, "format_version": ENSEMBLE_VERSION}
  if (wrong := {key: described.get(key) for key in expected}) != expected:
    raise DataError(
      f"{file} is not an ensemble that this version reads: {brief(wrong)}, not {expected}"
    )
  names = described.get("members")
  if not (isinstance(names, list) and len(names) > 1 and all(isinstance(n, str) for n in names)):
    raise DataError(f'{file}: expected "members", a list of at least two paths of checkpoints')
  return [file.parent / name for name in names]


def load_inference(path: str | AnyPath, which: str = "best", mesh: Any = None) -> LoadedCheckpoint:
  """Reads parameters and running statistics alone, on any devices.

  Args:
    path: directory, as for `find_checkpoint`.
    which: choice among several, as for `find_checkpoint`.
    mesh: devices for the parameters; by default the first one.

  Raises:
    DataError: there is no checkpoint, or it is broken.
  """
  loaded = open_checkpoint(path, which, mesh)
  _ = loaded.model  # now, so that what is broken is said here
  return loaded


def open_checkpoint(path: str | AnyPath, which: str = "best", mesh: Any = None) -> LoadedCheckpoint:
  """Reads what describes a checkpoint; arguments and errors as for `load_inference`."""
  found = find_checkpoint(path, which)
  meta, config, table = read_description(found)
  devices = jax.local_devices()[:1]
  return LoadedCheckpoint(
    config=config,
    table=table,
    organisms=organisms_of(meta),
    step=int(meta["step"]),
    path=as_path(found),
    meta=meta,
    mesh=make_mesh(MeshConfig(data=1, fsdp=1, sequence=1), devices) if mesh is None else mesh,
  )


def read_description(path: Any) -> tuple[dict[str, Any], Config, TrackTable]:
  """Reads the JSON item of a checkpoint, the configuration of its run and its tracks.

  Raises:
    DataError: it is broken, or of a version that this one does not understand.
  """
  with _naming_others(path):
    meta = read_meta(path)
  try:
    config, table = resolve(with_new_keys(meta["config"])), TrackTable.from_json(meta["table"])
    organisms_of(meta), int(meta["step"])
  except (
    ConfigError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
  ) as error:
    raise DataError(
      f"{path} was written by alphaecoli {_writer(meta)} and does not fit {__version__}: "
      f"{reason_of(error)}"
    ) from error
  return meta, config, table


@contextlib.contextmanager
def _naming_others(path: Any) -> Iterator[None]:
  """Adds to a message about a damaged checkpoint which others of its run there are."""
  try:
    yield
  except DataError as error:
    folder, name = epath.Path(path).parent, epath.Path(path).name
    steps = {p.name for p in folder.iterdir() if p.name.isdigit()} - {name}
    others = " or ".join(str(folder / step) for step in sorted(steps, key=int))
    advice = f"name another checkpoint, {others}" if others else "copy it anew, or train again"
    raise DataError(f"{error}; {advice}") from error


def hash_checkpoint(path: Any, items: Iterable[str] = ("params", "stats", WEIGHTS, "meta")) -> str:
  """Computes the SHA-256 of a checkpoint: names and contents of the files of its items, in order.

  Args:
    path: directory of one step; any directory will do.
    items: files and folders in it.
  """
  root, total = epath.Path(path), hashlib.sha256()
  for file, content in contents_of(root / item for item in items):
    total.update(f"{file.relative_to(root)}\n".encode())
    total.update(content)
  return total.hexdigest()
