"""Whether a checkpoint belongs to this configuration, and what a run records about itself."""

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from alphaecoli.config import with_new_keys
from alphaecoli.errors import ConfigError
from alphaecoli.schema import Config

LOGGER = logging.getLogger("alphaecoli")
# Sections and keys that may differ from the checkpoint's, because they change neither the arrays
# nor which windows belong to which split. Paths are judged by the track store's fingerprint.
_FREE_SECTIONS = ("optimizer", "loss", "mesh", "checkpoint", "evaluation", "log")
_FREE_KEYS = (
  "data.dump",
  "data.genome",
  "data.store_dir",
  "data.read_threads",
  "data.prefetch",
  "data.reverse_complement",
  "model.head_dropout",
  "model.compute_dtype",
  "model.remat",
  "train.steps",
  "train.batch_windows",
  "train.accumulate_steps",
)
_SILENT_KEYS = (
  "data.dump",
  "data.genome",
  "data.store_dir",
  "data.read_threads",
  "data.prefetch",
)
_SILENT_SECTIONS = ("mesh", "checkpoint", "evaluation", "log")


def flat_config(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
  """Nested values by dotted key; lists become tuples, so that JSON compares equal."""
  flat: dict[str, Any] = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      flat |= flat_config(value, f"{path}{key}.")
    else:
      flat[path + key] = tuple(value) if isinstance(value, list) else value
  return flat


def check_resumable(meta: Mapping[str, Any], config: Config, store_fingerprint: str) -> None:
  """Compares a checkpoint's configuration with this run's; says what else has changed.

  Raises:
    ConfigError: the model, the tracks or the splits differ.
  """
  before = flat_config(with_new_keys(meta["config"]))
  now = flat_config(config.to_dict())
  changed = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
  fixed = [k for k in changed if k.split(".")[0] not in _FREE_SECTIONS and k not in _FREE_KEYS]
  advice = "; restore the old values, or choose another --workdir to start a new run"
  if fixed:
    texts = (f"{k} was {before.get(k)!r} and is {now.get(k)!r}" for k in fixed)
    raise ConfigError(f"this work directory holds another run: {', '.join(texts)}{advice}")
  if meta["store_fingerprint"] != store_fingerprint:
    raise ConfigError(
      "this work directory holds a run on other tracks: data.dump or data.genome, or the files "
      f"they name, have changed{advice}"
    )
  for key in changed:
    if key not in _SILENT_KEYS and key.split(".")[0] not in _SILENT_SECTIONS:
      LOGGER.warning("%s was %r and is now %r", key, before.get(key), now.get(key))


def run_metadata(mesh: Mesh, store_fingerprint: str) -> dict[str, Any]:
  """What a run was made with: command, commit, devices, mesh, track store."""
  devices = mesh.devices.flat
  return {
    "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    "git_commit": _git_commit(),
    "devices": f"{len(devices)} x {devices[0].device_kind}",
    "processes": jax.process_count(),
    "mesh": dict(mesh.shape),
    "store_fingerprint": store_fingerprint,
  }


def _git_commit() -> str | None:
  """The commit of the checkout this package runs from, if it is one."""
  root = Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return None
  try:
    found = subprocess.run(
      ["git", "-C", str(root), "rev-parse", "HEAD"],
      capture_output=True,
      text=True,
      check=False,
      timeout=10,
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return found.stdout.strip() or None
