"""Models for prediction alone, as small folders: plain arrays with checksums, and their names.

A packed checkpoint is a folder with `meta/metadata`, the JSON item without what only training
needs, and `weights.npz` in the place of orbax's items: parameters and running statistics by name,
read without running any code. A kernel is stored in fewer bits and read as float32: its bfloat16
as the bits (uint16), or whole numbers of 8 or 7 bits with a scale for each of its output channels.
Several in one folder are an ensemble as any other. Layout: docs/prediction.md.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from etils import epath

from alphaecoli.checkpoints.arrays import BROKEN, check_files, read_item
from alphaecoli.config import base_config
from alphaecoli.errors import ConfigError, DataError, reason_of
from alphaecoli.files import AnyPath, as_path, make_folder, sealed, storage_errors

SHIPPED = Path(__file__).parents[1] / "pretrained"  # a folder a model
WEIGHTS = "weights.npz"
GENOMES = "genomes"  # folder of the chromosomes that the members were trained on, beside them
DEFAULT_MEMBERS = "default_members"  # in an ensemble's file: most members that predict a base
MARGIN_BP = "margin_bp"  # in the JSON item: margin of prediction, where it is not the usual one
LARGEST = {
  "int8": 127,
  "int7": 63,
}  # whole numbers, stored as int8 in a compressed file
PRECISIONS = (*LARGEST, "bfloat16", "float32")
WEIGHTS_KEY = "weights"  # in the JSON item: bytes, sha256 and precision of the file
_SCALE = ".scale"
_TRAINING = ("data", "loop", "checksum")  # of the JSON item; no use for prediction
_ROOTED = re.compile(r"(?:[/~\\]|\.\.?[/\\]|[A-Za-z]:[/\\]|\w+://)")


def shipped_models() -> dict[str, Path]:
  """Returns the folders of the models in the package, by name."""
  folders = SHIPPED.iterdir() if SHIPPED.is_dir() else ()
  return {path.name: path for path in sorted(folders) if path.is_dir()}


def locate_model(checkpoint: str | AnyPath) -> Any:
  """Finds what a user calls a checkpoint: a path that exists, else a shipped model's name.

  Raises:
    DataError: it is neither; lists the names.
  """
  path = epath.Path(as_path(checkpoint))
  if path.exists():
    return path
  shipped = shipped_models()
  if str(checkpoint) in shipped:
    return epath.Path(shipped[str(checkpoint)])
  names = f"; these are: {', '.join(shipped)}" if shipped else ", of which there are none"
  raise DataError(f"no checkpoint: {checkpoint} is not a directory, nor a shipped model{names}")


def pack(
  values: Mapping[str, Mapping[str, Any]], precision: str = PRECISIONS[0]
) -> dict[str, np.ndarray]:
  """Makes the arrays of the file: kernels in fewer bits, all else as float32.

  Args:
    values: parameters as `params` and running statistics as `stats`, by name.
    precision: of kernels, which are the parameters with two axes and more.

  Raises:
    ConfigError: unknown precision.
  """
  if precision not in PRECISIONS:
    raise ConfigError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
  arrays: dict[str, np.ndarray] = {}
  for item, named in values.items():
    for name, given in sorted(named.items()):
      value, key = np.asarray(given, np.float32), f"{item}/{name}"
      if item != "params" or value.ndim < 2 or precision == "float32":
        arrays[key] = value
      elif precision == "bfloat16":
        arrays[key] = value.astype(ml_dtypes.bfloat16).view(np.uint16)
      else:
        largest = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
        scale = largest / np.float32(LARGEST[precision])
        arrays[key] = np.rint(value / np.where(scale > 0, scale, 1)).astype(np.int8)
        arrays[key + _SCALE] = scale
  return arrays


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the float32 values that `pack` stored, by item and name."""
  found = {}
  for key, value in arrays.items():
    if value.dtype == np.uint16:
      found[key] = value.view(ml_dtypes.bfloat16).astype(np.float32)
    elif value.dtype == np.int8:
      found[key] = value * arrays[key + _SCALE]
    elif not key.endswith(_SCALE):
      found[key] = value
  return found


def write_packed(
  folder: Path,
  meta: Mapping[str, Any],
  values: Mapping[str, Mapping[str, Any]],
  precision: str = PRECISIONS[0],
) -> None:
  """Writes a packed checkpoint.

  Args:
    folder: folder to write to; made if needed.
    meta: JSON item of the checkpoint.
    values: parameters and running statistics, as for `pack`.
    precision: of kernels.

  Raises:
    ConfigError: unknown precision.
    DataError: the folder can not be written to.
  """
  file = io.BytesIO()
  np.savez_compressed(file, **pack(values, precision))  # type: ignore[arg-type]
  content = file.getvalue()
  described = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
  described_meta = {**scrubbed(meta), WEIGHTS_KEY: {**described, "precision": precision}}
  make_folder(folder / "meta")
  try:
    (folder / WEIGHTS).write_bytes(content)
    text = json.dumps(sealed(described_meta), separators=(",", ":"))
    (folder / "meta" / "metadata").write_text(text + "\n")
  except OSError as error:
    raise DataError(f"{folder}: can not be written: {error.strerror or error}") from error


def scrubbed(meta: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a JSON item without what only training needs, and without paths.

  Of a path only its last part stays. Factors and frozen parts are in the parameters: of `init` the
  defaults stay.
  """
  kept = {key: without_paths(value) for key, value in meta.items() if key not in _TRAINING}
  config = {**kept["config"], "init": base_config().init.to_dict()}
  return {**kept, "config": config}


def without_paths(value: Any) -> Any:
  """Replaces paths, of which a text is one if it starts as one, by their last part."""
  if isinstance(value, Mapping):
    return {key: without_paths(entry) for key, entry in value.items()}
  if isinstance(value, list | tuple):
    return [without_paths(entry) for entry in value]
  is_path = isinstance(value, str) and len(value) > 1 and _ROOTED.match(value)
  return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if is_path else value


def read_values(
  folder: Any, meta: Mapping[str, Any], abstract: Mapping[str, Mapping[str, Any]]
) -> list[Any]:
  """Reads the values of any checkpoint; arguments and errors as for `read_packed`."""
  if WEIGHTS_KEY in meta:
    return read_packed(folder, meta, abstract)
  check_files(folder, meta, abstract)
  values = []
  for name, shapes in abstract.items():
    try:
      values.append(read_item(epath.Path(folder) / name, shapes))
    except (*BROKEN, *storage_errors()) as error:
      raise DataError(f"{folder}: {name} can not be read: {reason_of(error)}") from error
  return values


def read_packed(
  folder: Any, meta: Mapping[str, Any], abstract: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """Reads the values of a packed checkpoint, onto the devices that `abstract` names.

  Args:
    folder: its folder.
    meta: its JSON item.
    abstract: shapes and shardings of `params` and `stats`, by name.

  Raises:
    DataError: the file is missing, not what was written, or of another model.
  """
  file = epath.Path(folder) / WEIGHTS
  try:
    content, expected = file.read_bytes(), meta[WEIGHTS_KEY]["sha256"]
    if hashlib.sha256(content).hexdigest() != expected:
      raise DataError(f"{file}: not what was written (another checksum)")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      values = unpack(arrays)
  except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
    raise DataError(f"{file}: can not be read: {reason_of(error)}") from error
  shapes = {
    f"{item}/{name}": x.shape for item, named in abstract.items() for name, x in named.items()
  }
  if shapes != {key: value.shape for key, value in values.items()}:
    raise DataError(f"{file}: holds the arrays of another model than its metadata describes")
  found = [{name: values[f"{item}/{name}"] for name in named} for item, named in abstract.items()]
  where = [{name: x.sharding for name, x in named.items()} for named in abstract.values()]
  return list(jax.device_put(found, where))  # all at once: one by one takes several times longer
